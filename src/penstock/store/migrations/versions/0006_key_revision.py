"""Whose keys or account changed, noted by triggers, so that servers need not look a key up again to know that it holds."""

import sqlalchemy as sa
from alembic import op

from penstock.store.sql.key_changes import make_triggers

revision = "0006"
down_revision = "0005"

WATCHED = {
    "users": ("id", ("id", "plan_id", "verified_at", "disabled_at", "leaving_at")),
    "api_keys": ("user_id", ("id", "user_id", "digest", "models", "addresses", "expires_at", "revoked_at")),
}
"""As it was then: later columns are not there yet."""


def upgrade() -> None:
    """Add the table and the triggers."""
    op.create_table(
        "key_changes",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_key_changes"),
    )
    make_triggers(op.get_bind(), WATCHED)
