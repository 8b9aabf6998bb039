"""The constants of routing in one table: thresholds, windows and waits, each with what it is for."""

import msgspec


class RoutingRules(msgspec.Struct, frozen=True):
    """Times are in seconds. Tests and simulations shorten the clocks with ``msgspec.structs.replace``."""

    # ---- the choice
    most_attempts: int = 3
    """For one model, the first included."""
    worse: float = 0.8
    """Of two that are drawn the second is taken where its score is below this part of the first's."""
    least_share: float = 0.1
    """Of its weight's share a healthy upstream keeps this: without requests nothing would be learned of it."""
    poor: float = 2.0
    """How many averages of the model its first tokens take of whom others are looked for."""
    failing_costs: float = 10.0
    """How much an upstream's score grows with its share of failures."""
    failures_weigh: float = 0.1
    """What one outcome counts in the average of failures."""
    slower_weighs: float = 0.5
    quicker_weighs: float = 0.1
    """What a first token counts that was slower, or quicker, than the upstream's average."""
    rate_weighs: float = 0.1
    """What one answer counts in the average of tokens a second."""
    slowest: float = 20.0
    """How many times the model's average one sample counts at most."""
    forgets: float = 20.0
    """Half-life of both averages where nothing new is learned."""

    # ---- affinity
    sticky_slower: float = 2.0
    """Seconds that a conversation waits longer at its own upstream than at the quickest other one."""
    sticky_load: float = 2.0
    sticky_spare: int = 8
    """It leaves one that has so many times the requests of the others, on average, and so many more."""

    # ---- circuits
    bucket: float = 5.0
    """The length of one bucket of the window; twelve are kept."""
    window_buckets: int = 6
    """Buckets that open a circuit, and that a degraded upstream has to be well in."""
    open_after: int = 10
    open_share: float = 0.5
    """A circuit opens where so many requests of the window failed in this share."""
    open_streak: int = 5
    streak_share: float = 0.3
    """Or after so many failures in a row, unless the window has ``open_after`` requests and fewer failed."""
    open_first: float = 5.0
    open_most: float = 60.0
    """How long a circuit is open: the first time, doubled each time, and at most."""
    openings_kept: float = 600.0
    """How long an opening is remembered for the next one's length."""
    good_probes: int = 2
    """Answers in a row that close an open circuit."""
    probe_held: float = 120.0
    """A probe that never reports bars others for so long."""
    probe_shortest: float = 2.0
    probe_unknown: float = 10.0
    """How long a probe may take to its first content at least, and where nothing is known of the model's times."""
    degraded_after: int = 20
    degraded_share: float = 0.1
    degraded_slow: float = 0.3
    badly_degraded: float = 0.25
    """Requests of a minute, and shares of them that failed or were slow, which put an upstream behind the healthy ones."""
    trickle_share: float = 0.05
    trickle_least: float = 0.2
    trickle_most: float = 1.0
    """What a degraded upstream is still asked: of its share, and requests a second at least and at most."""

    # ---- cooling and off
    cool_overload: float = 15.0
    cool_told: float = 30.0
    """The longest rest after an overload: without, and with a ``retry-after``."""
    cool_rate: float = 60.0
    cool_rate_told: float = 3600.0
    """The same after a rate limit; what is told to last longer is a quota."""
    cool_least: float = 0.2
    off_first: float = 60.0
    off_most: float = 3600.0
    """How long after it was switched off a credential or a model is tried again: first, and at most."""
    off_sole: float = 5.0
    """The same where there is nobody else: a request that would fail in any case may as well try."""

    # ---- the word of other processes
    hint_doubted: float = 60.0
    """For how long nothing is believed against what was well when another process had it left out."""

    # ---- headroom
    headroom_low: float = 0.2
    """Below this part of a limit an upstream's share falls with what is left."""
    headroom_every: float = 0.25
    """How often an upstream's answers are looked at for what is left."""

    # ---- limits that are learned
    learns_limits: bool = True
    """Whether there are such."""
    learned_cut: float = 0.7
    """After a refusal for load an upstream is sent this part of what ran there."""
    learned_least: float = 4.0
    learned_used: float = 0.8
    """The lowest limit, of which fewer tell nothing; and the part of a limit that has to be used for it to rise."""
    learn_every: float = 1.0
    """One cut in this time."""
    learned_kept: float = 600.0
    """How long after its last cut a limit is forgotten."""
    gradient_tolerance: float = 1.5
    """How many times its usual time a first token of the operator's own server may take before its limit falls."""
    gradient_smoothing: float = 0.2
    gradient_window: float = 600.0
    """How much of each step is taken, and the first tokens that are the usual time's average."""
    gradient_queue: float = 4.0
    """How many more than run well are sent, so that it is seen whether they do."""

    # ---- votes
    votes: int = 2
    votes_within: float = 5.0
    """Failures of one user against one upstream that count within this time, while others succeed there."""
    suspicion: float = 60.0
    """How long a failure waits for another request that fails the same way, and a request's poison is remembered."""

    # ---- the last resort
    resort_window: float = 120.0
    resort_every: float = 1.0
    """One request in this time goes to each upstream where none is to be had."""
    resort_wait: float = 2.0
    """The longest wait for the next one that can be had."""

    # ---- second attempts
    asks_again: bool = True
    """Whether an upstream is asked once more after it has failed, where there is nobody else."""
    tokens: float = 200.0
    token_earned: float = 1.0
    """What a model's budget holds, and what a success at the first attempt adds."""

    # ---- clocks before content
    samples: int = 200
    """So many first tokens within the hour, and a model's own times bound its attempts."""
    attempt_least: float = 10.0
    whole_least: float = 30.0
    """The shortest limits that are learned: of a stream's first content, and of a whole answer."""
    slow_least: float = 10.0
    slow_times: float = 3.0
    """When an attempt is slow: at least, and by the model's median."""
    whole_rate: float = 15.0
    """Tokens a second that a whole answer is waited for."""
    whole_base: float = 30.0
    whole_share: float = 0.6
    """Of a whole answer's time, the first attempt's part where there is another upstream."""
    whole_shortest: float = 60.0
    client_margin: float = 2.0
    """So long before its client gives up an answer is ended, so that it is told why."""
    warm_up: float = 20.0
    warm_from: float = 0.1
    """How long a local server takes to get its share of requests after it was away, and what it begins with."""


RULES = RoutingRules()
