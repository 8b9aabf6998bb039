"""Staff in roles, the trail and its changes, and the account that a key is limited by.

Who was an admin becomes staff: the one who was first there is the owner, the others are admins.
"""

import sqlalchemy as sa
from alembic import op

from penstock.store.sql.key_changes import make_triggers

revision = "0014"
down_revision = "0013"

WATCHED = {
    "users": ("id", ("id", "plan_id", "verified_at", "disabled_at", "leaving_at")),
    "api_keys": (
        "user_id",
        (
            "id", "user_id", "digest", "models", "addresses", "daily_requests", "concurrent_requests", "expires_at",
            "revoked_at", "account_id",
        ),
    ),
}  # fmt: skip
"""As it was then: later columns are not there yet."""

UNSEALED = sa.text("seq IS NULL")


def upgrade() -> None:
    """Add the tables, and move the admins over."""
    _staff()
    _trail()
    _changes()
    op.add_column("api_keys", sa.Column("account_id", sa.String(40)))
    make_triggers(op.get_bind(), WATCHED)
    for table in ("usage_hours", "usage_kinds", "refusal_hours"):
        op.create_index(f"ix_{table}_hour", table, ["hour"])


def _staff() -> None:
    op.create_table(
        "staff",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("granted_by", sa.String(40), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_staff"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_staff_user_id", ondelete="CASCADE"),
    )
    op.create_table(
        "setup_links",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("digest", name="pk_setup_links"),
    )
    op.create_table(
        "sso_groups",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_sso_groups"),
    )
    op.execute(
        "INSERT INTO staff (user_id, role, source, granted_by, created_at)"
        " SELECT id, CASE WHEN id = (SELECT id FROM users WHERE is_admin"
        " ORDER BY CASE WHEN disabled_at IS NULL THEN 0 ELSE 1 END, created_at, id LIMIT 1)"
        " THEN 'owner' ELSE 'admin' END, 'hand', '', created_at FROM users WHERE is_admin"
    )
    op.drop_column("users", "is_admin")


def _trail() -> None:
    op.create_table(
        "trail",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor_kind", sa.String(8), nullable=False),
        sa.Column("actor_id", sa.String(40), nullable=False),
        sa.Column("actor_name", sa.String(320), nullable=False),
        sa.Column("on_behalf_of", sa.String(40), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("agent", sa.String(200), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("object_kind", sa.String(24), nullable=False),
        sa.Column("object_id", sa.String(200), nullable=False),
        sa.Column("object_name", sa.String(320), nullable=False),
        sa.Column("before", sa.Text()),
        sa.Column("after", sa.Text()),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("result", sa.String(16), nullable=False),
        sa.Column("salt", sa.LargeBinary(16)),
        sa.Column("personal", sa.LargeBinary(32), nullable=False),
        sa.Column("seq", sa.BigInteger()),
        sa.Column("hash", sa.LargeBinary(32)),
        sa.PrimaryKeyConstraint("id", name="pk_trail"),
        sa.UniqueConstraint("seq", name="uq_trail_seq"),
    )
    op.create_index("ix_trail_at", "trail", ["at"])
    op.create_index("ix_trail_object", "trail", ["object_kind", "object_id", "at"])
    op.create_index("ix_trail_actor_at", "trail", ["actor_id", "at"])
    op.create_index("ix_trail_unsealed", "trail", ["id"], sqlite_where=UNSEALED, postgresql_where=UNSEALED)
    op.create_table(
        "trail_checkpoints",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_trail_checkpoints"),
    )


def _changes() -> None:
    op.create_table(
        "changes",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.String(40), nullable=False),
        sa.Column("actor_id", sa.String(40), nullable=False),
        sa.Column("actor_name", sa.String(320), nullable=False),
        sa.Column("object_kind", sa.String(24), nullable=False),
        sa.Column("object_id", sa.String(200), nullable=False),
        sa.Column("before", sa.Text()),
        sa.Column("after", sa.Text()),
        sa.Column("undone_at", sa.BigInteger()),
        sa.Column("undone_by", sa.String(320)),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
    )
    op.create_index("ix_changes_at", "changes", ["at"])
    op.create_index("ix_changes_operation", "changes", ["operation"])
    op.create_index("ix_changes_object", "changes", ["object_kind", "object_id", "at"])
