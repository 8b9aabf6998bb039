"""What is measured: each scenario with its callers, its upstream, its budget, and what other gateways took for the same."""

from dataclasses import dataclass
from typing import Literal

from bench.bodies import Dialect, Size
from bench.keys import COUNT

Unit = Literal["request", "chunk"]


@dataclass(frozen=True, slots=True)
class Stream:
    """How the mock upstream streams: text deltas in an answer, and milliseconds between two of them (0: none)."""

    deltas: int
    gap_ms: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table. ``ramp_ms`` spreads the callers' first requests.

    With a ``rate`` the loop is open: so many requests a second, whatever the answers do. ``delay_ms`` is how long the upstream
    waits before it answers. With ``many_keys`` each request has a key that was not used in the last seconds
    (``bench/keys.py``).
    """

    name: str
    what: str
    caller: Dialect
    upstream: Dialect
    size: Size
    connections: int
    stream: Stream | None = None
    ramp_ms: int = 0
    rate: float = 0.0
    delay_ms: int = 0
    many_keys: bool = False

    @property
    def unit(self) -> Unit:
        """What CPU time is divided by."""
        return "chunk" if self.stream else "request"

    @property
    def translated(self) -> bool:
        """Whether the gateway has to change the dialect."""
        return self.caller != self.upstream

    @property
    def paced(self) -> bool:
        """Whether deltas come one by one, as models send them: then the time to the first says something."""
        return self.stream is not None and self.stream.gap_ms > 0

    @property
    def behaviour(self) -> str:
        """What the upstream's model name ends with, so that it answers so."""
        stream = f"-n{self.stream.deltas}-g{self.stream.gap_ms}" if self.stream else ""
        return stream + (f"-d{self.delay_ms}" if self.delay_ms else "")


_FAST = Stream(deltas=200, gap_ms=0)
_PACED = Stream(deltas=200, gap_ms=5)

KEYS_A_SECOND = COUNT / 60
"""Requests a second at which each key is used once a minute."""

SCENARIOS = (
    Scenario("pass-one", "pass-through, 1.5 KB, one at a time", "chat", "chat", "small", 1),
    Scenario("pass-small", "pass-through, 1.5 KB, 64 at once", "chat", "chat", "small", 64),
    Scenario("pass-messages", "pass-through of messages, 1.5 KB, 64 at once", "messages", "messages", "small", 64),
    Scenario("translate-chat", "chat to a messages upstream, 1.5 KB, 64 at once", "chat", "messages", "small", 64),
    Scenario("translate-messages", "messages to a chat upstream, 1.5 KB, 64 at once", "messages", "chat", "small", 64),
    Scenario("pass-large", "pass-through, 107 KB, 16 at once", "chat", "chat", "large", 16),
    Scenario("translate-large", "chat to a messages upstream, 107 KB, 16 at once", "chat", "messages", "large", 16),
    Scenario(
        "translate-messages-large", "messages to a chat upstream, 107 KB, 16 at once", "messages", "chat", "large", 16
    ),
    Scenario("chat-responses", "chat to a responses upstream, 1.5 KB, 64 at once", "chat", "responses", "small", 64),
    Scenario("responses-chat", "responses to a chat upstream, 1.5 KB, 64 at once", "responses", "chat", "small", 64),
    Scenario(
        "responses-messages", "responses to a messages upstream, 1.5 KB, 64 at once", "responses", "messages", "small", 64
    ),
    Scenario(
        "keys-one", "pass-through, 1.5 KB, one at a time, key not remembered", "chat", "chat", "small", 1, many_keys=True
    ),
    Scenario(
        "keys-minute", "pass-through, 1.5 KB, 5,000 keys, each once a minute",
        "chat", "chat", "small", 64, rate=KEYS_A_SECOND, many_keys=True,
    ),
    Scenario(
        "slow-50", "pass-through, 1.5 KB, answered after 500 ms, 50 a second",
        "chat", "chat", "small", 100, rate=50, delay_ms=500,
    ),
    Scenario(
        "slow-500", "pass-through, 1.5 KB, answered after 500 ms, 500 a second",
        "chat", "chat", "small", 600, rate=500, delay_ms=500,
    ),
    Scenario("relay-paced", "stream relayed, 5 ms gap, 200 streams", "chat", "chat", "small", 200, _PACED, 1000),
    Scenario("relay-fast", "stream relayed, no gap, 16 streams", "chat", "chat", "small", 16, _FAST),
    Scenario(
        "stream-chat", "stream of a messages upstream to chat, no gap, 16 streams", "chat", "messages", "small", 16, _FAST
    ),
    Scenario(
        "stream-messages", "stream of a chat upstream to messages, no gap, 16 streams", "messages", "chat", "small", 16, _FAST
    ),
    Scenario(
        "stream-chat-paced", "stream of a messages upstream to chat, 5 ms gap, 200 streams",
        "chat", "messages", "small", 200, _PACED, 1000,
    ),
    Scenario(
        "stream-messages-paced", "stream of a chat upstream to messages, 5 ms gap, 200 streams",
        "messages", "chat", "small", 200, _PACED, 1000,
    ),
    Scenario(
        "stream-chat-responses-paced", "stream of a responses upstream to chat, 5 ms gap, 200 streams",
        "chat", "responses", "small", 200, _PACED, 1000,
    ),
    Scenario(
        "stream-responses-chat-paced", "stream of a chat upstream to responses, 5 ms gap, 200 streams",
        "responses", "chat", "small", 200, _PACED, 1000,
    ),
    Scenario(
        "stream-responses-messages-paced", "stream of a messages upstream to responses, 5 ms gap, 200 streams",
        "responses", "messages", "small", 200, _PACED, 1000,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Budget:
    """CPU microseconds a unit that Penstock may take, with nginx at ``nginx`` on the machine where this was set."""

    first: float
    then: float
    nginx: float
    peers: str


BUDGETS = {
    "pass-small": Budget(
        70, 45, 23.5,
        "HAProxy 22, Envoy 71-87, sglang-router 205-253, TensorZero 462-511, Portkey 1,150-1,240, LiteLLM 8,900-10,600",
    ),
    "pass-messages": Budget(70, 45, 23.5, "Portkey 1,075, LiteLLM 13,354"),
    "translate-chat": Budget(120, 80, 23.5, "TensorZero 561, Portkey 1,369, LiteLLM 12,900"),
    "translate-messages": Budget(120, 80, 23.5, "claude-code-router 2,621, LiteLLM 16,500"),
    "pass-large": Budget(
        300, 150, 67, "HAProxy 98, Envoy 105, sglang-router 2,437, Portkey 3,900, TensorZero 6,300, LiteLLM 22,000"
    ),
    "relay-paced": Budget(
        35, 22, 17.3, "HAProxy 17, Envoy 28, sglang-router 28, Portkey 42, TensorZero 44, LiteLLM 642"
    ),
    "stream-chat": Budget(12, 8, 7.3, "TensorZero 24, Portkey 24, LiteLLM 638"),
    "stream-messages": Budget(12, 8, 7.3, "claude-code-router 41, LiteLLM 856"),
}  # fmt: skip

PEERS_ONLY = {
    "translate-large": (67.0, "Portkey 5,329, TensorZero 8,962, LiteLLM 30,421"),
    "relay-fast": (
        7.3,
        "HAProxy 7.6, Envoy 5.2, sglang-router 7-10, TensorZero 19-24, Portkey 21-25, LiteLLM 500-690",
    ),
}
"""Scenarios without a budget of their own: nginx's figure beside the peers, and the peers'."""

TTFT_BUDGET_MS = 3.0
TTFT_PEERS = "nginx 0.5, Envoy 3.6, TensorZero 31, sglang-router 45, Portkey 134, LiteLLM 12,568"
IDLE_BUDGET_MB = 80.0
IDLE_PEERS = "LiteLLM 362-450, Otari 211, Portkey 96-220, TensorZero 66-130, Envoy 64-80, nginx 16"
STREAM_BUDGET_KB = 22.0
START_BUDGET_SECONDS = 1.5
START_PEERS = "LiteLLM 7-16, Otari 6.9, Portkey 0.6-0.8, TensorZero 0.4-0.6"


@dataclass(frozen=True, slots=True)
class Target:
    """What the request path must reach, by nginx with spinning peers, and what it aims at; first tokens in milliseconds."""

    most: float
    aim: float


TARGETS = {
    "pass-small": Target(3.0, 2.35),
    "keys-one": Target(2.0, 1.3),
    "pass-large": Target(2.7, 2.0),
    "translate-chat": Target(8.0, 5.5),
    "translate-messages": Target(8.0, 5.5),
    "relay-paced": Target(1.56, 1.35),
    "slow-500": Target(2.3, 1.8),
}
TRANSLATED_CHUNK_MORE = 1.1
"""At most so many times a relayed chunk may a translated one cost, by nginx; the aim is the same cost."""
IDLE_TARGET_MB = Target(80.0, 70.0)
STREAM_TARGET_KB = Target(22.0, 16.0)
FIRST_TOKEN_TARGET_MS = Target(1.5, 1.0)
PATH = (
    *TARGETS, "stream-chat-paced", "stream-messages-paced", "stream-chat-responses-paced", "stream-responses-chat-paced",
    "stream-responses-messages-paced",
)  # fmt: skip
"""The scenarios that the targets are about, for ``--only path``."""
