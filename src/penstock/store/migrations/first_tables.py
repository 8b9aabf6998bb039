"""Tables of the first schema that more than one step makes. Never edited any more: a change is a new step."""

import sqlalchemy as sa
from alembic import op


def requests(*key: str, partitioned_by: str | None = None) -> None:
    """The request log, with its primary ``key``; on PostgreSQL in partitions, where that is asked for."""
    op.create_table(
        "requests",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(40), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("dialect", sa.String(16), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("requested_model", sa.String(128), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("upstream_model", sa.String(256), nullable=False),
        sa.Column("upstream_dialect", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("outcome", sa.String(32)),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("refund_reason", sa.String(32)),
        sa.Column("error_code", sa.String(64)),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("cache_read_tokens", sa.BigInteger()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("first_byte_ms", sa.Integer()),
        sa.Column("total_ms", sa.Integer()),
        sa.Column("translation", sa.Text()),
        sa.PrimaryKeyConstraint(*key, name="pk_requests"),
        postgresql_partition_by=partitioned_by,
    )


def sign_in() -> None:
    """How people come in: passwords, sessions, codes, mails."""
    op.create_table(
        "credentials",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("password", sa.Text()),
        sa.Column("password_at", sa.BigInteger()),
        sa.Column("totp_sealed", sa.LargeBinary()),
        sa.Column("totp_at", sa.BigInteger()),
        sa.Column("totp_step", sa.BigInteger()),
        sa.PrimaryKeyConstraint("user_id", name="pk_credentials"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_credentials_user_id", ondelete="CASCADE"),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "digest", name="pk_recovery_codes"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_recovery_codes_user_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("agent", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_sessions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("id", name="uq_sessions_id"),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_table(
        "one_time_codes",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("email_canonical", sa.String(320), nullable=False),
        sa.Column("visitor", sa.LargeBinary(32), nullable=False),
        sa.Column("user_id", sa.String(40)),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("password", sa.Text()),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_one_time_codes"),
    )
    op.create_index("ix_one_time_codes_visitor", "one_time_codes", ["visitor"])
    op.create_table(
        "tallies",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.LargeBinary(32), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "subject", "period", name="pk_tallies"),
    )
    op.create_index("ix_tallies_ends_at", "tallies", ["ends_at"])
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("recipient", sa.String(320), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger()),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.BigInteger()),
        sa.Column("error", sa.String(200)),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_due_at", "outbox", ["due_at"])
    op.create_table(
        "audit",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("about", sa.String(200), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_user_at", "audit", ["user_id", "at"])
    op.create_table(
        "plan_wishes",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("plan_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_plan_wishes"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_plan_wishes_user_id", ondelete="CASCADE"),
    )


def sums() -> None:
    """What pages read instead of the rows of requests."""
    op.create_table(
        "usage_hours",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        *(sa.Column(f"first_{number}", sa.BigInteger(), nullable=False) for number in range(12)),
        sa.PrimaryKeyConstraint("user_id", "hour", "model", name="pk_usage_hours"),
    )
    op.create_table(
        "usage_errors",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(64), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "day", "cause", name="pk_usage_errors"),
    )
    op.create_table(
        "model_days",
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("trouble", sa.BigInteger(), nullable=False),
        sa.Column("timed", sa.BigInteger(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", "day", name="pk_model_days"),
    )
