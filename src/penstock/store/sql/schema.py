"""Every table, once, as portable SQLAlchemy Core metadata.

Times are UTC milliseconds since the epoch (``*_at``), days are UTC day numbers (``epoch seconds // 86400``), JSON is
text. Nothing here knows which database it is.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

from penstock.store.request_key import id_of, key_of

HEAD = "0024"
"""The newest migration in ``migrations/versions``: the revision that this program reads and writes."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class RequestId(TypeDecorator[str]):
    """A request's public id, kept as its key (``store/request_key.py``)."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's own
        return None if value is None else key_of(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's own
        return None if value is None else id_of(value)


# ---- who: people and their keys

users = Table(
    "users",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("email", String(320), nullable=False),
    Column("email_canonical", String(320), nullable=False, unique=True),
    Column("plan_id", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("verified_at", BigInteger),
    Column("disabled_at", BigInteger),
    Column("leaving_at", BigInteger),
    Index("ix_users_created_at", "created_at"),
)
"""``leaving_at``: when the account will be deleted, as its owner asked; None while it stays."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("user_id", String(40), ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(100), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("last4", String(4), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("pepper_id", String(16), nullable=False),
    Column("sealed", LargeBinary),
    Column("models", Text),
    Column("addresses", Text),
    Column("daily_requests", BigInteger),
    Column("concurrent_requests", Integer),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("account_id", String(40)),
)
"""``daily_requests`` and ``concurrent_requests`` are the key's own limits within the plan's; None where it has none.
``user_id`` is who acts with the key. ``account_id`` is the account that is limited and pays, None for the person's own."""

staff = Table(
    "staff",
    metadata,
    Column("user_id", String(40), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("source", String(8), nullable=False),
    Column("granted_by", String(40), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""Who works here, in which role (``domain/staff/roles.py``). ``source`` is ``hand``, or ``sso`` where a group gave the role."""

setup_links = Table(
    "setup_links",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
)
"""Links by which the first owner makes the account; ``digest`` is of the link's token."""

sso_groups = Table(
    "sso_groups",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("role", String(16), nullable=False),
)
"""Which role the members of a group have that the sign-in provider names."""

admin_tokens = Table(
    "admin_tokens",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("last4", String(4), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("pepper_id", String(8), nullable=False),
    Column("role", String(16), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("addresses", Text),
    Column("maker_id", String(40), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
    Index("ix_admin_tokens_maker_id", "maker_id"),
)
"""Tokens of the admin API; ``digest`` is of the token, which is kept nowhere. One never does more than its maker may now."""

idempotency = Table(
    "idempotency",
    metadata,
    Column("token_id", String(40), ForeignKey("admin_tokens.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("status", Integer),
    Column("sealed", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_idempotency_created_at", "created_at"),
)
"""Answers to writes of the admin API by the caller's key, sealed; ``status`` None while the request runs."""

# ---- how people come in: passwords, sessions, one-time codes

credentials = Table(
    "credentials",
    metadata,
    Column("user_id", String(40), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("password", Text),
    Column("password_at", BigInteger),
    Column("totp_sealed", LargeBinary),
    Column("totp_at", BigInteger),
    Column("totp_step", BigInteger),
)
"""``password`` is an argon2id hash; the second factor counts once ``totp_at`` is set, ``totp_step`` is the last step used."""

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("user_id", String(40), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", LargeBinary(32), primary_key=True),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("user_id", String(40), ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("stage", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(200), nullable=False),
)
"""``digest`` is of the cookie's token; ``stage`` is ``password`` while the second factor is missing, else ``signed_in``."""

one_time_codes = Table(
    "one_time_codes",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("purpose", String(16), nullable=False),
    Column("email_canonical", String(320), nullable=False),
    Column("visitor", LargeBinary(32), nullable=False, index=True),
    Column("user_id", String(40)),
    Column("email", String(320), nullable=False),
    Column("password", Text),
    Column("digest", LargeBinary(32), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
"""A row per code that can still be used; ``visitor`` is the digest of the cookie that asked. ``user_id`` is None for a code
that was not mailed, because the address has no account, or has one already."""

tallies = Table(
    "tallies",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("subject", LargeBinary(32), primary_key=True),
    Column("period", BigInteger, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("ends_at", BigInteger, nullable=False, index=True),
)
"""How often something was tried in a period, by address, network or account, of which only a digest is kept."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("recipient", String(320), nullable=False),
    Column("sealed", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("sent_at", BigInteger),
    Column("given_up_at", BigInteger),
    Column("error", String(200)),
    Index("ix_outbox_due_at", "due_at"),
    Index("ix_outbox_created_at", "created_at"),
)
"""Mails to send; ``sealed`` is the mail itself, gone once it is sent or given up (``due_at`` None). ``given_up_at`` is
None of those that versions before 0024 gave up."""

audit = Table(
    "audit",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("user_id", String(40), nullable=False),
    Column("action", String(40), nullable=False),
    Column("about", String(200), nullable=False),
    Column("address", String(64), nullable=False),
    Index("ix_audit_user_at", "user_id", "at"),
)

day_mails = Table(
    "day_mails",
    metadata,
    Column("user_id", String(40), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("wanted", Boolean, nullable=False),
    Column("day", Integer, nullable=False),
    Column("share", Integer, nullable=False),
)
"""Whether a person wants mail when 80, 95 and 100 % of a day are used, and of which day and share the last one was; who has
no row wants it, and has had none."""

trail = Table(
    "trail",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor_kind", String(8), nullable=False),
    Column("actor_id", String(40), nullable=False),
    Column("actor_name", String(320), nullable=False),
    Column("on_behalf_of", String(40), nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(200), nullable=False),
    Column("action", String(40), nullable=False),
    Column("object_kind", String(24), nullable=False),
    Column("object_id", String(200), nullable=False),
    Column("object_name", String(320), nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("reason", String(500), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("result", String(16), nullable=False),
    Column("salt", LargeBinary(16)),
    Column("personal", LargeBinary(32), nullable=False),
    Column("seq", BigInteger, unique=True),
    Column("hash", LargeBinary(32)),
    Index("ix_trail_at", "at"),
    Index("ix_trail_object", "object_kind", "object_id", "at"),
    Index("ix_trail_actor_at", "actor_id", "at"),
    Index(
        "ix_trail_unsealed",
        "id",
        sqlite_where=text("seq IS NULL"),
        info={"postgresql": {"where": text("seq IS NULL")}},
    ),
)
"""What staff, commands and the service itself have done and been refused, chained by hash (``domain/trail/chain.py``)."""

trail_checkpoints = Table(
    "trail_checkpoints",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("entries", BigInteger, nullable=False),
)
"""Where the chain had come to: ``entries`` are all up to ``seq``, those that have been pruned since included."""

changes = Table(
    "changes",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("operation", String(40), nullable=False, index=True),
    Column("actor_id", String(40), nullable=False),
    Column("actor_name", String(320), nullable=False),
    Column("object_kind", String(24), nullable=False),
    Column("object_id", String(200), nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("undone_at", BigInteger),
    Column("undone_by", String(320)),
    Index("ix_changes_at", "at"),
    Index("ix_changes_object", "object_kind", "object_id", "at"),
)
"""What undoing reads: an object before and after a change, None where it was not there. Those of one ``operation`` belong
together (``domain/trail/changes.py``)."""

plan_wishes = Table(
    "plan_wishes",
    metadata,
    Column("user_id", String(40), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("plan_id", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""The plan that a person has asked the operator for."""

# ---- what the operator tells everybody

incidents = Table(
    "incidents",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("title", String(200), nullable=False),
    Column("models", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("resolved_at", BigInteger),
    Index("ix_incidents_began_at", "began_at"),
)
"""Trouble, as staff tell of it on the status page. ``models`` is a JSON list of public ids; empty: the whole service."""

incident_updates = Table(
    "incident_updates",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("incident_id", String(40), ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_incident_updates_incident_id", "incident_id"),
)
"""What was said of an incident, one time after the other."""

announcements = Table(
    "announcements",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("text", Text, nullable=False),
    Column("plan_id", String(64), nullable=False),
    Column("shown_from", BigInteger, nullable=False),
    Column("shown_until", BigInteger, nullable=False),
    Index("ix_announcements_shown_until", "shown_until"),
)
"""Banners above the pages, for everybody (``plan_id`` '') or for the accounts of a plan."""

# ---- what is captured, where an owner has said so

capture_orders = Table(
    "capture_orders",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("account_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("reason", Text, nullable=False),
    Column("ordered_by", String(320), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Index("ix_capture_orders_ends_at", "ends_at"),
)
"""Whose requests are kept with their content: of an account, or of one of its keys (``key_id`` '': of all)."""

captures = Table(
    "captures",
    metadata,
    Column("request_id", String(40), primary_key=True),
    Column("order_id", String(40), nullable=False),
    Column("account_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("status", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Index("ix_captures_order", "order_id", "at"),
    Index("ix_captures_at", "at"),
)
"""What was asked and answered, sealed, for ``capture_days``."""

# ---- what staff are told of, and what goes out

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("host", String(300), nullable=False),
    Column("shape", String(8), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_by", String(320), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("removed_at", BigInteger),
)
"""Where events of the staff are sent; ``sealed`` has the address, whose path may be a secret, and the signing secret."""

notice_rules = Table(
    "notice_rules",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("event", String(40), nullable=False),
    Column("least", String(8), nullable=False),
    Column("webhook_id", String(40)),
    Column("recipient", String(320)),
    Column("at_once", Boolean, nullable=False),
    Column("quiet", String(11), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""Which events go where: to a webhook or to a mail address, at once or in the digest. ``event`` is a name, the beginning of
one before a point, or ``*``; ``quiet`` is such as 22:00-07:00, or ''."""

staff_events = Table(
    "staff_events",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("event", String(40), nullable=False),
    Column("object", String(200), nullable=False),
    Column("severity", String(8), nullable=False),
    Column("text", String(300), nullable=False),
    Column("open_key", LargeBinary(32), unique=True),
    Column("opened_at", BigInteger, nullable=False),
    Column("told_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Index("ix_staff_events_opened_at", "opened_at"),
)
"""What staff are told of: ids, numbers and our own words. ``open_key`` is of the event and its object while it lasts, so that
there is one at a time, whichever server sees it; ``seen_at`` is when a server saw it last."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("target", String(320), nullable=False),
    Column("event", String(40), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("bundle", String(8), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("sent_at", BigInteger),
    Column("given_up_at", BigInteger),
    Column("error", String(200)),
    Index("ix_deliveries_due_at", "due_at"),
    Index("ix_deliveries_target", "target", "created_at"),
)
"""What goes to webhooks (``kind`` ``webhook``, ``target`` its id) and to the mail addresses of rules. ``sealed`` is what is
said; ``bundle`` is ``hour`` or ``digest`` where it waits to be said with others. ``due_at`` and ``sent_at`` None, and no
bundle: it was given up."""

jobs = Table(
    "jobs",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("holder", String(40), nullable=False),
    Column("held_until", BigInteger, nullable=False),
    Column("done_at", BigInteger, nullable=False),
)
"""Work that one server does at a time: who holds it, until when, and up to when it was done."""

destinations = Table(
    "destinations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(40), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("host", String(300), nullable=False),
    Column("sealed", LargeBinary),
    Column("created_by", String(320), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("removed_at", BigInteger),
    Column("cursor", BigInteger, nullable=False),
    Column("delivered", BigInteger, nullable=False),
    Column("holder", String(40), nullable=False),
    Column("held_until", BigInteger, nullable=False),
    Column("again_at", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("failed_at", BigInteger),
    Column("error", String(200)),
    Column("shape", String(16), nullable=False, server_default="receipts"),
)
"""Where settled requests are exported to. ``cursor`` is the ``seq`` of the last batch that arrived there; ``failed_at`` is
since when it takes none."""

backfills = Table(
    "backfills",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("destination_id", String(40), nullable=False),
    Column("begins_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Column("created_by", String(320), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("behind", RequestId),
    Column("delivered", BigInteger, nullable=False),
    Column("done_at", BigInteger),
    Column("stopped", Boolean, nullable=False),
)
"""What is sent to a destination of the past: the requests that came from ``begins_at`` up to ``ends_at``. What has arrived is
all before ``day``, and of that day what is up to ``behind``."""

settled_batches = Table(
    "settled_batches",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("members", LargeBinary, nullable=False),
    Column("seq", BigInteger, unique=True),
    Index(
        "ix_settled_batches_unnumbered",
        "id",
        sqlite_where=text("seq IS NULL"),
        info={"postgresql": {"where": text("seq IS NULL")}},
    ),
)
"""Which requests were settled together, written with them as long as there is a destination. ``seq`` is given afterwards, by
one server at a time (``domain/exports/settled.py``): so a number never appears below one that was read."""

# ---- what is offered: the catalogue

plans = Table(
    "plans",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("daily_requests", BigInteger, nullable=False),
    Column("concurrent_requests", Integer, nullable=False),
    Column("queue_seconds", Integer, nullable=False),
    Column("models", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("choice", Text),
    Column("managed_by", String(64)),
)

providers = Table(
    "providers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("speaks", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("auth", String(32), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("profile", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("credentials", Text),
    Column("choice", Text),
    Column("managed_by", String(64)),
)
"""``credentials`` is a pool of them; None where ``secret`` is the only one."""

provider_keys = Table(
    "provider_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("provider_id", String(64), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("fingerprint", String(16), nullable=False),
    Column("last4", String(4), nullable=False),
    Column("origins", Text, nullable=False),
    Column("added_by", String(320), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("retire_at", BigInteger),
    Column("unused_at", BigInteger),
)
"""Keys of providers that were entered in the pages or by a command, sealed (``domain/catalog/kept_keys.py``). ``origins`` are
the addresses that it was entered for. ``retire_at`` is when the pool loses it, after a rotation; ``unused_at`` is since when no
provider has it."""

upstream_state = Table(
    "upstream_state",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("credential", String(64), primary_key=True),
    Column("model", String(256), primary_key=True),
    Column("state", String(8), nullable=False),
    Column("until", BigInteger),
    Column("why", String(200), nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("reset_at", BigInteger),
)
"""What an operator has said of a provider, or of one credential or one model of it ('': of all). ``state`` is ``on``, ``drain``
or ``off``; ``until`` is when that ends. What was learned before ``reset_at`` is to be forgotten."""

models = Table(
    "models",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("aliases", Text, nullable=False),
    Column("targets", Text, nullable=False),
    Column("max_output_tokens", Integer),
    Column("context_tokens", Integer),
    Column("capabilities", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("managed_by", String(64)),
)

revisions = Table(
    "revisions",
    metadata,
    Column("subject", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""A counter per subject (``catalog``, ``keys``), raised in the transaction that changes it; servers poll it."""

key_changes = Table(
    "key_changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", String(40), nullable=False),
)
"""Whose keys or account the last revisions of ``keys`` changed; triggers write it (``store/sql/key_changes.py``)."""

# ---- what happened: the ledger. ``user_id`` is the account in all of it: who is limited and pays.

usage_days = Table(
    "usage_days",
    metadata,
    Column("user_id", String(40), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("used", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
)
"""``used`` is what counts against the plan: requests that were counted and not refunded."""

usage_hours = Table(
    "usage_hours",
    metadata,
    Column("user_id", String(40), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Index("ix_usage_hours_hour", "hour"),
    sqlite_with_rowid=False,
)
"""Sums of settled requests by hour (epoch hours)."""

usage_kinds = Table(
    "usage_kinds",
    metadata,
    Column("user_id", String(40), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("key_id", String(40), primary_key=True),
    Column("kind", BigInteger, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("most_input", BigInteger, nullable=False),
    Column("most_output", BigInteger, nullable=False),
    Column("most_first_ms", Integer, nullable=False),
    Column("most_total_ms", Integer, nullable=False),
    Index("ix_usage_kinds_hour", "hour"),
    sqlite_with_rowid=False,
)
"""Sums of settled requests by hour, key and kind: what a filter of the log finds, and on which days it is to be looked for.
``most_*`` are what no request of the row is above, so that an order by them reads few rows."""

usage_times = Table(
    "usage_times",
    metadata,
    Column("user_id", String(40), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("key_id", String(40), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("client", String(64), primary_key=True),
    *(Column(f"first_{number}", Integer, nullable=False) for number in range(44)),
    *(Column(f"whole_{number}", Integer, nullable=False) for number in range(44)),
    Index("ix_usage_times_hour", "hour"),
    sqlite_with_rowid=False,
)
"""Settled requests by class of the time to the first byte and, where they completed, of the whole time
(``domain/ledger/latency.py``); ``hour`` is the first of the day where the hours of a day were put together."""

SPECIAL = (
    "audio_input_tokens", "audio_output_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
    "web_searches", "web_fetches", "code_runs", "file_searches", "other_tool_runs",
)  # fmt: skip
"""Classes that few answers are billed by: parts of a request's tokens, and runs of tools that the provider ran."""

usage_special = Table(
    "usage_special",
    metadata,
    Column("user_id", String(40), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("key_id", String(40), primary_key=True),
    Column("kind", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, BigInteger, nullable=False) for name in SPECIAL),
    sqlite_with_rowid=False,
)
"""The same sums of the classes in ``SPECIAL``, where there are any."""

usage_errors = Table(
    "usage_errors",
    metadata,
    Column("user_id", String(40), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("cause", String(64), primary_key=True),
    Column("requests", BigInteger, nullable=False),
)

model_days = Table(
    "model_days",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("trouble", BigInteger, nullable=False),
    Column("timed", BigInteger, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
)
"""``trouble``: by fault of a provider or ours; ``first_ms``: the sum of the times to the first byte of ``timed`` requests."""

refusal_hours = Table(
    "refusal_hours",
    metadata,
    Column("user_id", String(40), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("code", String(64), primary_key=True),
    Column("key_id", String(40), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Index("ix_refusal_hours_hour", "hour"),
)
"""How often requests with a key were refused before any upstream was asked, by epoch hour, code of the error and key."""

refusals = Table(
    "refusals",
    metadata,
    Column("id", RequestId, primary_key=True),
    Column("user_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("status", Integer, nullable=False),
    Column("code", String(64), nullable=False),
    Column("dialect", String(16), nullable=False),
    Column("model", String(128), nullable=False),
    Column("requested_model", String(128), nullable=False),
    Column("stream", Boolean),
    Column("client", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("retry_after", Integer),
    Column("plan_id", String(64), nullable=False),
    Column("most", BigInteger),
    Column("used", BigInteger),
    Column("holders", Text),
    Index("ix_refusals_user_created", "user_id", "created_at"),
    Index("ix_refusals_created_at", "created_at"),
    sqlite_with_rowid=False,
)
"""The newest of them for each account (``domain/ledger/refusals.py``). ``most`` and ``used`` are the limit's that was reached,
``holders`` the requests that ran then."""

kinds = Table(
    "kinds",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(8), nullable=False),
    Column("dialect", String(16), nullable=False),
    Column("model", String(128), nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("client", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("upstream_model", String(256), nullable=False),
    Column("upstream_dialect", String(16), nullable=False),
    Column("credential", String(64)),
    Column("reason", String(32)),
    Column("attempts", Integer, nullable=False),
    Column("status", Integer),
    Column("outcome", String(32)),
    Column("counted", Boolean, nullable=False),
    Column("refund_reason", String(32)),
    Column("error_code", String(64)),
    Column("estimated", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
"""What is the same of many requests, once; ``requests.kind`` points here. The id is a hash of the rest, so whoever needs a
kind adds it without asking (``domain/ledger/kinds.py``). ``state`` is ``open``, ``settled``, or ``refused`` of a request that
reached no upstream and counts nowhere. ``credential`` is the provider's that was used, ``reason`` why the upstream was chosen.
"""

requests = Table(
    "requests",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("id", RequestId, primary_key=True),
    Column("user_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("kind", BigInteger, nullable=False),
    Column("boot", String(40)),
    Column("requested_model", String(128)),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cache_read_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("first_byte_ms", Integer),
    Column("total_ms", Integer),
    Column("translation", Text),
    Column("answered_model", String(128)),
    Column("account_id", String(40)),
    Column("actor_id", String(40)),
    Column("upstream_request_id", String(128)),
    Column("service_tier", String(32)),
    Column("cost", BigInteger),
    Column("charge", BigInteger),
    *(Column(name, BigInteger) for name in SPECIAL),
    Index("ix_requests_user_day_kind_created", "user_id", "day", "kind", "created_at"),
    # Only the rows that wait for an end, so that it stays as small as the work in hand, however long the ledger is.
    Index(
        "ix_requests_open_boot",
        "boot",
        sqlite_where=text("boot IS NOT NULL"),
        info={"postgresql": {"where": text("boot IS NOT NULL")}},
    ),
    sqlite_with_rowid=False,
    info={"postgresql": {"partition_by": "RANGE (day)"}},
)
"""One row per request, as it is written; ``domain/ledger/entries.py`` is what readers read. ``boot`` is the process that has
yet to end it, None afterwards. ``requested_model`` is None where it is the kind's model: any other is a caller's own word, and
their words make no kinds. ``user_id`` is the account; ``actor_id`` is who acted, None where that is the account itself.
``service_tier`` is the provider's word for the tier that served the request, None where it is its usual one or none was
named; the classes in ``SPECIAL`` are None where a request has none of them. ``account_id``, ``upstream_request_id``, ``cost``
and ``charge`` have no writer yet; the last two are nano-units.

The day leads the key: what a day has lies together, and PostgreSQL keeps the rows in partitions by it
(``store/sql/partitions.py``). An id alone is unique all the same, since each is made once and its row's day never changes."""

attempts = Table(
    "attempts",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("request_id", RequestId, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("provider", String(64), nullable=False),
    Column("credential", String(64), nullable=False),
    Column("upstream_model", String(256), nullable=False),
    Column("upstream_dialect", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("failure", String(32), nullable=False),
    Column("status", Integer),
    Column("upstream_request_id", String(128)),
    Column("started_ms", BigInteger, nullable=False),
    Column("first_ms", BigInteger),
    Column("ended_ms", BigInteger, nullable=False),
    Column("retry_after_ms", BigInteger),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("maybe_billed", Boolean, nullable=False),
    Column("message", Text),
    sqlite_with_rowid=False,
)
"""The attempts of requests that had more than one, or one that failed. Times count from the request's beginning. ``failure`` is
its class, '' of the one that answered; ``message`` is what the provider has said of it, for the operator alone."""

retention = Table(
    "retention",
    metadata,
    Column("subject", String(32), primary_key=True),
    Column("first_day", Integer, nullable=False),
)
"""For ``requests``: the first day (UTC day number) whose rows are all kept; those of earlier days may be gone."""
