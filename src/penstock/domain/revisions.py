"""Revisions: counters in the database that say whether anything of a kind has changed, polled by every server in one read."""

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from penstock.errors import DatabaseUnavailable
from penstock.store.sql.backend import Cell, PointRow
from penstock.store.sql.key_changes import SUBJECT as KEYS

T = TypeVar("T")

CATALOG: Final = "catalog"
"""The row in ``revisions`` that changes of the catalogue raise; that of the keys is raised by triggers."""


def _revision_of(subject: str) -> str:
    return f"COALESCE((SELECT value FROM revisions WHERE subject = '{subject}'), 0)"  # noqa: S608 - a name of ours


KEYS_REVISION: Final = _revision_of(KEYS)
"""The revision of the keys, as an expression in SQL; 0 before the first change."""
_REVISIONS: Final = f"SELECT {_revision_of(CATALOG)}, {KEYS_REVISION}"


class PointReads(Protocol):
    """Of the database: small reads by keys, which ``Database`` describes."""

    def read_now(self, text: str, values: Sequence[Cell] = ()) -> list[PointRow] | None:
        """The rows, or None where they have to be waited for."""
        ...

    async def read(self, text: str, values: Sequence[Cell] = ()) -> list[PointRow]:
        """The rows. Raises ``DatabaseUnavailable``."""
        ...


class Revisions(msgspec.Struct, frozen=True, array_like=True):
    """How often the catalogue and the keys (with the accounts they belong to) have been changed."""

    catalog: int
    keys: int


class KeyChange(msgspec.Struct, frozen=True, array_like=True):
    """The account whose row or keys a revision changed."""

    revision: int
    user_id: str


async def read_revisions(database: PointReads) -> Revisions:
    """Both, as of one moment. Raises ``DatabaseUnavailable``."""
    rows = await database.read(_REVISIONS)
    return _converted(rows[0] if len(rows) == 1 else rows, Revisions)


async def read_key_changes(database: PointReads, after: int) -> list[KeyChange]:
    """The changes since a revision that are still noted, in their order. Raises ``DatabaseUnavailable``."""
    rows = await database.read(
        "SELECT revision, user_id FROM key_changes WHERE revision > ? ORDER BY revision", (after,)
    )
    return _converted(rows, list[KeyChange])


def _converted(rows: object, kind: type[T]) -> T:
    """The rows as what they were asked for. Raises ``DatabaseUnavailable`` where they are something else."""
    try:
        return msgspec.convert(rows, kind)
    except msgspec.ValidationError as error:
        raise DatabaseUnavailable("The database answers with what it was not asked for.") from error
