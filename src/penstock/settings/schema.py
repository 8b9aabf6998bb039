"""The table of settings: one frozen record, each field with its bounds and what the documentation says of it."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta


def about(
    what: str, expects: str = "", *, pattern: str | None = None, default: str = "", secret: bool = False
) -> Meta:
    """What the documentation and the complaints say about a setting; ``secret``: its value is never shown."""
    said = {"expects": expects, "default": default}
    extra = {key: text for key, text in said.items() if text} | ({"secret": True} if secret else {})
    return Meta(description=what, pattern=pattern, extra=extra)


YEAR = 365 * 86_400
Seconds = Annotated[float, Meta(ge=0, le=YEAR, extra={"expects": "a number of seconds"})]
Timer = Annotated[float, Meta(gt=0, le=YEAR, extra={"expects": "a number of seconds above 0"})]
Bytes = Annotated[int, Meta(ge=1, le=1 << 32)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Tries = Annotated[int, Meta(ge=1, le=1_000_000)]
_ATOM = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+"
_SENDER = rf"{_ATOM}(?:\.{_ATOM})*@(?:[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*|\[[0-9a-zA-Z.:]+\])"
"""An address as a header of a mail can say it, without quotes and encoded words."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. Times are in seconds, sizes in bytes."""

    data: Annotated[Path, about("Directory of the database, the secrets file and the journal.")] = Path(
        "data"
    )
    host: Annotated[
        str,
        about(
            "Where to listen; `::` is every address, IPv4 and IPv6.",
            "a host name or an IP address",
            pattern=r"^[^\s/]+$",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535), about("Port to listen on; 0 takes a free one.")] = 8484
    workers: Annotated[
        int,
        Meta(ge=1, le=64),
        about("Serving processes, for several cores; more than one need PostgreSQL and Redis."),
    ] = 1
    worker_hung: Annotated[
        float,
        Meta(ge=1, le=3600),
        about(
            "Seconds after which a worker that says nothing is killed and replaced; each speaks four times as often.",
            "a number of seconds of at least 1",
        ),
    ] = 30.0
    public_url: Annotated[
        str,
        about(
            "What callers put before `/api/v1`, where that is not the address listened on. With a path, such as "
            "https://host/penstock, all of the service is below it, whether or not the proxy takes the path off.",
            "a URL such as https://llm.example.com",
            pattern=r"^$|^https?://[^\s/?#@]+(/[A-Za-z0-9._~-]+)*/?$",
            default="`http://HOST:PORT`",
        ),
    ] = ""
    hsts_seconds: Annotated[
        int,
        Meta(ge=0, le=2**31 - 1),
        about(
            "For how long browsers that came by https never come by http again (Strict-Transport-Security). Told where "
            "`public_url` or a trusted proxy says that it is https; 0 to say nothing.",
            "a number of seconds",
        ),
    ] = 31_536_000
    brand: Annotated[
        str,
        about(
            "The service's name on its pages and in its mails.",
            "a name of 1 to 60 characters",
            pattern=r"^[^\x00-\x1f]{1,60}$",
        ),
    ] = "Penstock"
    brand_color: Annotated[
        str,
        about(
            "The colour of links and buttons: its hue is taken, and how light it is stays what can be read.",
            "a colour such as #b3005e",
            pattern=r"^$|^#[0-9a-fA-F]{6}$",
            default="ours",
        ),
    ] = ""
    support: Annotated[
        str,
        about(
            "Where people ask for help: on every page, in every mail, and where answers to mails go.",
            "a mail address or an https URL",
            pattern=rf"^$|^{_SENDER}$|^https?://[^\s<>\"]+$",
            default="none",
        ),
    ] = ""
    database_url: Annotated[
        str,
        about(
            "The database: a SQLite file, or PostgreSQL.",
            "a URL such as sqlite:////srv/penstock.db or postgresql://user:password@host/penstock",
            pattern=r"^$|^[a-z0-9+]+:/",
            default="`DATA/penstock.db`",
            secret=True,
        ),
    ] = ""
    database_synchronous: Annotated[
        Literal["NORMAL", "FULL"],
        about(
            "What SQLite and the journal sync: with `NORMAL` nothing is lost when the process dies, with `FULL` nothing "
            "when the power fails either, for more work on each write."
        ),
    ] = "NORMAL"
    journal_bytes: Annotated[
        Bytes,
        about(
            "Requests that the database does not have yet are in a journal in the data directory, which begins with 2 MiB. "
            "While the database is away each of its two files grows up to this; when it is full requests are refused."
        ),
    ] = 32 << 20
    journal_pace: Annotated[
        Timer, about("How long what is in the journal may wait for company before it goes to the database.")
    ] = 0.05
    journal_hold: Annotated[
        Timer,
        about(
            "How long a request may run before the database gets its row, open. Until then the row is in the journal alone; "
            "most requests have ended by then and are written once. Lists of requests show one that runs so much later."
        ),
    ] = 5.0
    retain_days: Annotated[
        int,
        Meta(ge=0, le=36_500),
        about(
            "Days for which the ledger keeps each request; 0: for ever. Daily counts and sums by hour stay. PostgreSQL drops "
            "a month at a time, once all of it is older, or a day where fewer than 62 are kept."
        ),
    ] = 396
    refusals_kept: Annotated[
        Count,
        about(
            "Receipts of refused requests that are kept of an account: of the newest, and for no longer than `retain_days`; "
            "0: none. How often which code was answered in an hour is kept for ever."
        ),
    ] = 1000
    providers_told: Annotated[
        bool, about("Whether people see which provider has answered: in the log, on receipts, in files.")
    ] = True
    database_pool: Annotated[
        int, Meta(ge=1, le=100), about("PostgreSQL: connections kept for reading, and as many for writing.")
    ] = 5
    database_connect: Annotated[Timer, about("PostgreSQL: to connect.")] = 5.0
    database_statement: Annotated[Timer, about("PostgreSQL: for one statement.")] = 15.0
    database_lock: Annotated[
        Timer, about("PostgreSQL: to wait for a lock, or for a connection of the pool.")
    ] = 5.0
    redis_url: Annotated[
        str,
        about(
            "Where several servers on one PostgreSQL share their limits. One server needs none.",
            "a URL such as redis://localhost:6379/0",
            pattern=r"^$|^(rediss?|valkeys?|unix|redis\+unix|redis\+socket)://\S+$",
            default="none",
            secret=True,
        ),
    ] = ""
    redis_timeout: Annotated[
        Timer, about("How long Redis may take; a server goes on with its share of the limits then.")
    ] = 0.25
    redis_lease: Annotated[
        float,
        Meta(ge=1, le=3600),
        about(
            "How long a slot outlives the last word of the server that holds it; servers speak three times as often.",
            "a number of seconds of at least 1",
        ),
    ] = 15.0
    redis_prefix: Annotated[
        str,
        about("What the names of its keys begin with.", "a text without spaces", pattern=r"^[!-z]{0,64}$"),
    ] = "penstock:"
    mail_url: Annotated[
        str,
        about(
            "Where mail goes: `console:` prints it, `file:DIR` writes one .eml file each, `smtp://...` sends it.",
            "console:, file:DIR or smtp://user:password@host:587",
            pattern=r"^console:$|^file:.+$|^smtp(s|\+ssl|\+tls|\+starttls)?://\S+$",
            secret=True,
        ),
    ] = "console:"
    mail_from: Annotated[
        str,
        about(
            "Whom mails come from.",
            "an address such as Penstock <no-reply@llm.example.com>",
            pattern=rf"^$|^(?!.*=\?)(?:[^\x00-\x1f<>]*<{_SENDER}>|{_SENDER})$",
            default="`BRAND <no-reply@HOST>`",
        ),
    ] = ""
    mail_days: Annotated[
        int,
        Meta(ge=35, le=36_500),
        about(
            "Days for which is kept that a mail was sent: of which kind, to whom and when. Its text goes when it is sent."
        ),
    ] = 90
    secret_file: Annotated[
        Path | None,
        about(
            "Peppers and sealing keys, made at the first start; keep a copy with the database's.",
            default="`DATA/secrets.json`",
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[str, ...],
        about(
            "Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
            "IP addresses or networks such as 10.0.0.0/8",
        ),
    ] = ()

    report_zone: Annotated[
        str,
        about(
            "The time zone of the daily digest and of quiet hours.",
            "a zone such as Europe/Berlin",
            pattern=r"^[A-Za-z0-9_+/-]{1,64}$",
        ),
    ] = "UTC"
    digest_at: Annotated[
        str,
        about(
            "When owners and admins are mailed what waits for somebody and what has changed; none where there is nothing. "
            "`never` for no such mail; what rules collect for the digest is sent at 00:00 then.",
            "a time such as 08:00, or never",
            pattern=r"^(never|([01]\d|2[0-3]):[0-5]\d)$",
        ),
    ] = "08:00"
    notify_poll: Annotated[
        Timer, about("How long an event of the staff, or a message to a webhook, may wait to be seen to.")
    ] = 5.0
    notify_again: Annotated[Timer, about("How long until an event that lasts is told again.")] = 86_400.0
    notify_over: Annotated[
        Timer, about("How long no server has seen what an event is about until the event is over.")
    ] = 120.0
    notify_per_hour: Annotated[
        int,
        Meta(ge=1, le=1000),
        about(
            "Messages that a webhook, or a mail address of a rule, gets in an hour; the rest comes in one summary."
        ),
    ] = 20
    abuse_sign_ups: Annotated[
        int,
        Meta(ge=0, le=1_000_000),
        about("New accounts within an hour from which on staff are told (`abuse.burst`); 0: never."),
    ] = 50
    abuse_refusals: Annotated[
        int,
        Meta(ge=0, le=1_000_000_000),
        about("Refused requests of an account in an hour from which on staff are told; 0: never."),
    ] = 3000
    backup_hours: Annotated[
        int,
        Meta(ge=0, le=100_000),
        about(
            "Hours after the last `penstock backup` when staff are told that there is none newer; 0: never. "
            "Where it was never used nothing is told."
        ),
    ] = 36
    release_url: Annotated[
        str,
        about(
            "Where a server asks once a day for the newest version: JSON with `version`, `tag_name` or `info.version`. "
            "Unset, nothing is asked.",
            "an https URL such as https://releases.example.com/penstock.json, or http on this machine",
            pattern=r"^(|https://[a-z0-9.\-]+(:\d{1,5})?(/[!-~]*)?|http://(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?(/[!-~]*)?)$",
            default="none",
        ),
    ] = ""
    webhook_seconds: Annotated[Timer, about("How long a webhook may take for a message.")] = 5.0
    webhook_addresses: Annotated[
        tuple[str, ...],
        about(
            "Networks that webhooks and exports may reach beside the addresses of the world, such as a receiver of your own.",
            "IP addresses or networks such as 10.1.2.0/24",
        ),
    ] = ()
    webhook_ca: Annotated[
        Path | None,
        about(
            "PEM file of authorities that are trusted for webhooks and exports, beside those of the machine.",
            default="none",
        ),
    ] = None
    export_seconds: Annotated[
        Timer, about("How long a destination of exports may take for a batch of at most 500 receipts.")
    ] = 30.0
    export_poll: Annotated[
        Timer, about("How long what was settled may wait to be exported, where destinations take it.")
    ] = 2.0
    export_collect: Annotated[
        Timer,
        about("How long receipts are collected for an object in a bucket, where there are fewer than 500."),
    ] = 300.0
    export_file_bytes: Annotated[
        Bytes, about("The size at which a new file of exported receipts is begun; each day has its own, too.")
    ] = 64 << 20

    header_bytes: Annotated[Bytes, about("All headers of a request together.")] = 32 * 1024
    header_count: Annotated[int, Meta(ge=10, le=10_000), about("Headers of a request.")] = 100
    request_line: Annotated[Bytes, about("Path and query of a request.")] = 8 * 1024
    max_body: Annotated[Bytes, about("The body of a request.")] = 32 * 1024 * 1024
    max_bodies: Annotated[
        Bytes, about("All bodies in memory together; beyond it new requests are answered 503.")
    ] = 1024 * 1024 * 1024
    bodies_kept: Annotated[
        Bytes,
        about(
            "Of `max_bodies`, kept for bodies up to 64 KiB, one half of it for users who hold none; at most an eighth."
        ),
    ] = 64 * 1024 * 1024
    max_values: Annotated[
        int,
        Meta(ge=1000, le=100_000_000),
        about(
            "Objects, lists and their members in a body, all together; not of embeddings, which are not decoded."
        ),
    ] = 100_000
    max_nesting: Annotated[
        int,
        Meta(ge=16, le=500),
        about(
            "Levels of objects and lists in a body, one in the other; the same on every version of Python."
        ),
    ] = 500
    max_choices: Annotated[
        int,
        Meta(ge=1, le=128),
        about(
            "Answers that one request may ask for (`n`); a greater number is left out, so that there is one answer, and told."
        ),
    ] = 4
    thread_above: Annotated[
        Bytes, about("Bodies larger than this are read and translated in a thread beside the streams.")
    ] = 256 * 1024
    header_deadline: Annotated[Timer, about("Within which all headers have arrived.")] = 10.0
    body_deadline: Annotated[Timer, about("Within which a body has arrived, or arrives steadily.")] = 30.0
    body_rate: Annotated[
        int, Meta(ge=1, le=1 << 30), about("So many more bytes of a body lengthen its deadline by a second.")
    ] = 1024
    keepalive_idle: Annotated[Timer, about("How long an idle connection is kept for the next request.")] = (
        75.0
    )
    caller_stall: Annotated[Timer, about("How long a caller may take nothing of its answer.")] = 60.0

    upstream_connect: Annotated[Timer, about("To look up, connect and agree on TLS.")] = 5.0
    upstream_headers: Annotated[
        Timer,
        about("From the request to the head of a stream's answer, where another provider could be asked."),
    ] = 15.0
    upstream_first_byte: Annotated[
        Timer,
        about(
            "From the request to the first content of a stream, where another provider could be asked; else to its first byte."
        ),
    ] = 60.0
    upstream_thinking: Annotated[
        Timer, about("The same for models that think (`capabilities.thinking`), where it is longer.")
    ] = 120.0
    upstream_slope: Annotated[Seconds, about("More of all these, for each million tokens of the prompt.")] = (
        240.0
    )
    upstream_whole: Annotated[
        Timer,
        about(
            "From the request to the end of an answer that is no stream, at most: it has less where few tokens are asked for."
        ),
    ] = 600.0
    upstream_idle: Annotated[
        Timer,
        about(
            "Between two bytes of a stream. For models that think `upstream_thinking` counts instead, where it is longer: they "
            "may fall silent for as long as before their first content."
        ),
    ] = 60.0
    upstream_total: Annotated[Timer, about("From the request to the end of the answer.")] = 1800.0
    upstream_again: Annotated[
        bool,
        about(
            "Whether a provider is asked once more, after a moment, when it has failed and there is no other. A vendor may "
            "charge for both."
        ),
    ] = True
    caller_preferences: Annotated[
        bool,
        about(
            "Whether callers may narrow the choice of a provider (`provider`, `X-Penstock-Provider`) and name further models "
            "(`models`, `fallbacks`); otherwise these fields go on to the provider as they are."
        ),
    ] = True
    provider_header: Annotated[bool, about("Whether answers tell who gave them (`X-Penstock-Provider`).")] = (
        False
    )
    upstream_queue: Annotated[
        Timer,
        about(
            "How long a request waits for a place at providers that take only so many at once (`in_flight` in the "
            "catalogue), before it is answered 503."
        ),
    ] = 2.0
    upstream_queue_flexible: Annotated[
        Timer,
        about(
            'The same for requests with `service_tier: "flex"`, which count a tenth of their plan\'s weight.'
        ),
    ] = 30.0
    upstream_learned_limits: Annotated[
        bool,
        about(
            "Whether a provider that refuses for load, or a server of your own that gets slow, is sent fewer requests at once "
            "for a while: others wait for a place as for one of `in_flight`."
        ),
    ] = True
    max_reply: Annotated[Bytes, about("A provider's answer that is not a stream.")] = 64 * 1024 * 1024
    max_replies: Annotated[
        Bytes,
        about(
            "All such answers in memory together, beyond 1 MiB of each; one that finds no room is answered 503."
        ),
    ] = 512 * 1024 * 1024
    max_pauses: Annotated[
        Count,
        about(
            "How often a provider may pause one answer (`pause_turn`) and is asked to go on with it, for callers whose "
            "format has no word for that."
        ),
    ] = 8
    max_stream_kept: Annotated[
        Bytes,
        about(
            "Of one translated stream, what is kept until its end: the text for callers of Responses, whose last events "
            "repeat it (a longer one ends with an error), and a turn with tools that the provider runs, which has to go "
            "on where it pauses (a longer one ends there)."
        ),
    ] = 8 * 1024 * 1024
    max_startup: Annotated[
        Bytes,
        about(
            "Of one stream, what is held of its start-up: what comes before the first content, until which another provider "
            "can still be asked. A longer one goes to the caller at once."
        ),
    ] = 64 * 1024
    thoughts_kept: Annotated[
        int,
        Meta(ge=0, le=2**32),
        about(
            "Memory of a process for reasoning that callers do not send back in tool loops; 0: none is kept.",
            "bytes, from 0 to 4294967296",
        ),
    ] = 32 * 1024 * 1024
    translations_kept: Annotated[
        int,
        Meta(ge=0, le=2**32),
        about(
            "Memory of a process for the tools and turns of conversations that it translated, so that the next request of "
            "one is only what it adds; 0: none are kept.",
            "bytes, from 0 to 4294967296",
        ),
    ] = 32 * 1024 * 1024

    head_hold: Annotated[
        Seconds,
        about(
            "How long a stream's status waits for the first content, so that a failure of the provider is a true 502; then "
            "the caller gets 200 and keep-alives, and another provider is still asked until content comes."
        ),
    ] = 20.0
    keepalive: Annotated[Timer, about("Silence of a stream after which a keep-alive is sent.")] = 15.0

    errors_per_minute: Annotated[
        Count, about("Refused requests a minute after which a key is refused with 429; 0: no bound.")
    ] = 120
    errors_per_minute_address: Annotated[
        Count, about("The same for an address without a good key; off when `errors_per_minute` is 0.")
    ] = 60
    token_counts_per_minute: Annotated[
        Count, about("`count_tokens` requests a minute and user, which are free otherwise; 0: no bound.")
    ] = 600
    token_counts_at_once: Annotated[
        int,
        Meta(ge=1, le=10_000),
        about("`count_tokens` requests that run at once, beyond the first of each user; more wait."),
    ] = 32
    token_counts_at_once_user: Annotated[int, Meta(ge=1, le=10_000), about("The same for one user.")] = 8
    token_count_text: Annotated[
        Bytes,
        about(
            "Characters of a request that an estimate of its tokens looks at; the rest counts as densely as they do."
        ),
    ] = 8 * 1024 * 1024
    token_count_seconds: Annotated[
        Timer, about("Time of a thread that an estimate may take; the rest counts as densely, too.")
    ] = 1.0
    keys_reveal: Annotated[
        bool, about("Whether owners can see their keys again; if not, a key is shown once, when it is made.")
    ] = True
    cache_seconds: Annotated[
        float,
        Meta(ge=0, le=60),
        about(
            "How long a key is believed since the database was last asked; a revoked one works no longer. "
            "0: every request looks its key up.",
            "a number of seconds",
        ),
    ] = 5.0
    keys_remembered: Annotated[
        int,
        Meta(ge=1, le=10_000_000),
        about("Keys that a server remembers, 1 KiB each; the one used longest ago goes first."),
    ] = 50_000
    revision_poll: Annotated[
        Timer,
        about(
            "How often a server looks whether the catalogue, keys or accounts were changed: often enough for "
            "`cache_seconds`, or each key is looked up by itself."
        ),
    ] = 2.0

    signup: Annotated[
        Literal["open", "closed"], about("Whether people can make accounts for themselves.")
    ] = "open"
    signup_domains: Annotated[
        tuple[str, ...],
        about("Only mail addresses at these domains may sign up; none: all.", "domains such as example.com"),
    ] = ()
    discovery_seconds: Annotated[
        float,
        Meta(ge=0, le=60),
        about(
            "How long the start may wait for the lists of models of vendors whose key is there and of whom the catalogue "
            "serves nothing; 0: they are not asked.",
            "a number of seconds up to 60",
        ),
    ] = 4.0
    signup_plan: Annotated[str, about("The plan of those who sign up.", "the id of a plan")] = "free"
    github_client: Annotated[
        str, about("Sign-in through GitHub: the id of your OAuth app.", "a client id", default="none")
    ] = ""
    github_secret: Annotated[str, about("Its secret.", "a client secret", default="none", secret=True)] = ""
    google_client: Annotated[
        str, about("Sign-in through Google: the id of your client.", "a client id", default="none")
    ] = ""
    google_secret: Annotated[str, about("Its secret.", "a client secret", default="none", secret=True)] = ""
    oidc_issuer: Annotated[
        str,
        about(
            "Sign-in through another OpenID provider: its issuer.",
            "a URL such as https://id.example.com",
            pattern=r"^$|^https?://\S+$",
            default="none",
        ),
    ] = ""
    oidc_client: Annotated[str, about("The id of your client there.", "a client id", default="none")] = ""
    oidc_secret: Annotated[str, about("Its secret.", "a client secret", default="none", secret=True)] = ""
    oidc_name: Annotated[
        str, about("What the button says.", "a name of 1 to 40 characters", pattern=r"^.{1,40}$")
    ] = "single sign-on"
    oidc_trusts_email: Annotated[
        bool,
        about(
            "Whether an address counts as verified where that provider does not say so: Microsoft Entra ID leaves "
            "`email_verified` out. You vouch for it then; name your domains in `signup_domains`. An address that it calls "
            "unverified is refused all the same."
        ),
    ] = False
    oidc_groups_claim: Annotated[
        str,
        about(
            "The claim in which that provider names a person's groups, which `penstock staff group` gives roles to; empty: "
            "groups mean nothing here.",
            "the name of a claim",
            pattern=r"^\S{0,100}$",
        ),
    ] = "groups"
    staff_factor: Annotated[
        bool,
        about(
            "Whether the staff need a second factor for the admin pages, once `public_url` begins with https."
        ),
    ] = True
    trail_days: Annotated[
        int,
        Meta(ge=0, le=36_500),
        about(
            "Days for which the trail of what staff and commands did is kept; 0: for ever. What goes leaves a checkpoint, "
            "from which the rest is still verified."
        ),
    ] = 0
    admin_api_per_minute: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        about("Requests a minute that one token of the admin API may send to one server."),
    ] = 600
    admin_api_body: Annotated[
        Bytes, about("The largest body that the admin API takes, a catalogue included.")
    ] = 1 << 20
    admin_api_answers: Annotated[
        Timer, about("How long the answer to a write with an `Idempotency-Key` is kept.")
    ] = 86_400.0
    admin_token_days: Annotated[
        int, Meta(ge=1, le=3650), about("The most days for which a token of the admin API works.")
    ] = 365
    rotated_key_stays: Annotated[
        Timer,
        about(
            "How long a provider's key that was rotated on its page stays in the pool, drained, before it is taken out; until "
            "then the rotation is taken back without entering it again."
        ),
    ] = 86_400.0
    captures: Annotated[
        Literal["allowed", "never"],
        about(
            "Whether an owner may have what an account asks and gets kept for a time, sealed; `never` takes the way of it out."
        ),
    ] = "allowed"
    capture_days: Annotated[
        int, Meta(ge=1, le=365), about("Days for which what was captured is kept, apart from all else.")
    ] = 7
    capture_bytes: Annotated[
        Bytes, about("How much is kept of a captured request and its answer together; what is beyond is cut.")
    ] = 1 << 20
    capture_redaction: Annotated[
        str,
        about(
            "What takes out of captured content what is not to be kept, before it is sealed: an entry point of a package of "
            "yours, in the group `penstock.redactions`, which gets bytes and gives bytes.",
            "a name",
            pattern=r"^[A-Za-z0-9_.-]{0,100}$",
            default="none but credentials, which always go",
        ),
    ] = ""
    session_idle: Annotated[Timer, about("How long a session lasts that is not used.")] = 86_400.0
    session_lifetime: Annotated[Timer, about("How long a session lasts at most.")] = 14 * 86_400.0
    answer_floor: Annotated[
        float,
        Meta(ge=0, le=5),
        about(
            "Sign-up, sign-in and reset never answer sooner, so that nobody can tell by time who has an account.",
            "a number of seconds, at most 5",
        ),
    ] = 0.3
    sign_in_tries: Annotated[
        Tries,
        about("Wrong passwords for an account from one network in 15 minutes; other networks still get in."),
    ] = 8
    sign_in_tries_network: Annotated[
        Tries, about("Sign-ins from one network in 15 minutes; more, where many people share an address.")
    ] = 60
    sign_ups_network: Annotated[Tries, about("New accounts from one network in an hour.")] = 20
    codes_network: Annotated[Tries, about("Codes that are mailed for one network in an hour.")] = 20
    codes_all: Annotated[
        Tries, about("Codes that are mailed in an hour; what your mail provider takes, perhaps.")
    ] = 2000
    second_factor_tries: Annotated[
        Tries, about("Codes of the second factor for an account in 15 minutes.")
    ] = 10
    second_factor_tries_day: Annotated[Tries, about("The same in a day (UTC).")] = 50
    passwords_at_once: Annotated[
        int,
        Meta(ge=1, le=64),
        about("Passwords that a process checks at once; each takes a processor for some 40 ms, and 19 MiB."),
    ] = 2
    passwords_waiting: Annotated[
        int, Meta(ge=1, le=10_000), about("How many more wait for that; who comes then is answered 503.")
    ] = 20

    drain_delay: Annotated[
        Seconds, about("After the signal to stop: how long new requests are answered with 503.")
    ] = 5.0
    drain: Annotated[Seconds, about("After that: how long running requests may take to finish.")] = 120.0
    log_level: Annotated[Literal["debug", "info", "warning", "error"], about("The least that is logged.")] = (
        "info"
    )
    log_format: Annotated[
        Literal["text", "json"], about("Lines to read, or one JSON object a line; always on stderr.")
    ] = "text"
    log_backlog: Annotated[
        Tries,
        about(
            "How many lines of the log may wait for whoever reads stderr. Those that come then are left out, and counted."
        ),
    ] = 10_000
    metrics_token: Annotated[
        str,
        about(
            "Bearer token for `/metrics`.",
            "printable ASCII without spaces",
            pattern=r"^[\x21-\x7e]*$",
            default="none",
            secret=True,
        ),
    ] = ""
    otel_endpoint: Annotated[
        str,
        about(
            "Where traces are sent, by OTLP over HTTP: the whole address; empty: there are none. Wants the extra "
            "`penstock[otel]`.",
            "a URL such as http://127.0.0.1:4318/v1/traces",
            pattern=r"^$|^https?://[^\s@]+$",
            default="none",
        ),
    ] = ""
    otel_metrics_endpoint: Annotated[
        str,
        about(
            "Where metrics of what providers are asked are sent, by OTLP over HTTP: the whole address; empty: there are none. "
            "`/metrics` is apart from this. Wants the extra `penstock[otel]`.",
            "a URL such as http://127.0.0.1:4318/v1/metrics",
            pattern=r"^$|^https?://[^\s@]+$",
            default="none",
        ),
    ] = ""
    otel_metrics_seconds: Annotated[Timer, about("How often these metrics are sent.")] = 60.0
    otel_headers: Annotated[
        tuple[str, ...],
        about(
            "Headers that are sent to the collector.",
            "NAME=VALUE, such as Authorization=Bearer abc",
            default="none",
            secret=True,
        ),
    ] = ()
    otel_sample: Annotated[
        float,
        Meta(ge=0, le=1),
        about(
            "Which share of the requests is traced that neither failed nor were slow; those always are.",
            "a number from 0 to 1",
        ),
    ] = 0.01
    otel_slow: Annotated[Timer, about("From when on, to the first content, a request is slow.")] = 15.0
    otel_queue: Annotated[
        int,
        Meta(ge=1, le=100_000),
        about("Requests that wait for the collector at most; what comes then is not traced, and counted."),
    ] = 2048
    otel_timeout: Annotated[Timer, about("How long the collector may take for what it is sent.")] = 10.0
    otel_trust_callers: Annotated[
        bool,
        about(
            "Whether a caller's `traceparent` is believed: its request is then a part of that trace, and kept where the caller "
            "keeps it. Towards providers none is ever sent."
        ),
    ] = False
    otel_names: Annotated[
        Literal["current", "both"],
        about(
            "Whether what was renamed in the conventions is also told by its former name, for older readers."
        ),
    ] = "current"

    def __post_init__(self) -> None:
        # Paths are made absolute once, so that a later change of directory or a message to the operator cannot mislead.
        fill = msgspec.structs.force_setattr
        fill(self, "data", self.data.absolute())
        fill(self, "secret_file", (self.secret_file or self.data / "secrets.json").absolute())
        fill(self, "public_url", self.public_url.rstrip("/"))
        if not self.mail_from:
            fill(self, "mail_from", f"{self.brand} <no-reply@{_mail_host(self.public_url)}>")
        if not self.database_url:
            fill(self, "database_url", f"sqlite:///{self.data}/penstock.db")
        if self.max_bodies < self.max_body:
            fill(self, "max_bodies", self.max_body)
        fill(self, "bodies_kept", min(self.bodies_kept, self.max_bodies // 8))
        if self.max_replies < self.max_reply:
            fill(self, "max_replies", self.max_reply)
        if self.errors_per_minute == 0:
            fill(self, "errors_per_minute_address", 0)

    def __repr__(self) -> str:
        return f"Settings(data={self.data})"  # the rest holds passwords

    @property
    def secret_path(self) -> Path:
        """Where the secrets file is: ``secret_file``, or its default."""
        return self.secret_file or self.data / "secrets.json"

    @property
    def base_path(self) -> str:
        """What every path of the service begins with towards browsers and callers: '', or such as ``/penstock``."""
        return urlsplit(self.public_url).path

    def url(self, port: int) -> str:
        """What callers put before ``/api/v1``; ``port`` is the one listened on."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{port}"


def _mail_host(public_url: str) -> str:
    """The host of the service as it stands in a mail address."""
    host = urlsplit(public_url).hostname or "localhost"
    if ":" in host:
        return f"[IPv6:{host}]"
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return "localhost"
