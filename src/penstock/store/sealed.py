"""Sealed columns: what is kept encrypted in the database, and sealing it anew with the newest key of the ring."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, LargeBinary, and_, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.secrets_file import Entropy, SecretsFile, SecretsFileError
from penstock.store.sql.database import Database

_LOOKED_AT: Final = 500
"""How many rows that want it are looked for at a time; their ids alone are read."""


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """``about`` makes of ``row``, which names the row, what its seal is bound to. ``at_once`` are sealed in one transaction."""

    column: Column[Any]
    row: tuple[Column[Any], ...]
    about: Callable[..., bytes]
    at_once: int = 50

    @property
    def name(self) -> str:
        return f"{self.column.table.name}.{self.column.name}"


@dataclass(frozen=True, slots=True)
class Resealed:
    """``done`` values are sealed anew; ``shut`` did not open, since the ring lacks their key or they were changed."""

    done: int = 0
    shut: int = 0


async def reseal(
    database: Database, columns: Sequence[SealedColumn], secrets_file: SecretsFile, entropy: Entropy
) -> Resealed:
    """Seal anew what other keys than the newest have sealed, a few rows to a transaction: who writes beside it waits for no
    more. A value that is changed meanwhile stays as it was changed. Raises ``DatabaseUnavailable``.
    """
    done = shut = 0
    for sealed in columns:
        after: tuple[Any, ...] | None = None
        while True:
            async with database.connect() as conn:
                rows = await _older(conn, sealed, secrets_file.seal_id, after)
            for start in range(0, len(rows), sealed.at_once):
                async with database.transaction() as conn:
                    for row in rows[start : start + sealed.at_once]:
                        opened = await _reseal_one(conn, sealed, row, secrets_file, entropy)
                        done, shut = done + (opened is True), shut + (opened is False)
            if len(rows) < _LOOKED_AT:
                break
            after = rows[-1]
    return Resealed(done, shut)


async def older_seals(
    conn: AsyncConnection, columns: Sequence[SealedColumn], secrets_file: SecretsFile
) -> dict[str, int]:
    """How many values are sealed with each other key than the newest, by its id."""
    found: dict[str, int] = {}
    for sealed in columns:
        head = _head(sealed)
        query = select(head, func.count()).where(
            sealed.column.is_not(None), head != SecretsFile.seal_head(secrets_file.seal_id)
        )
        for start, count in await conn.execute(query.group_by(head)):
            id = SecretsFile.sealed_with(start)
            found[id] = found.get(id, 0) + count
    return found


async def _older(
    conn: AsyncConnection, sealed: SealedColumn, newest: str, after: tuple[Any, ...] | None
) -> list[tuple[Any, ...]]:
    query = select(*sealed.row).where(
        sealed.column.is_not(None), _head(sealed) != SecretsFile.seal_head(newest)
    )
    if after is not None:
        query = query.where(tuple_(*sealed.row) > tuple_(*after))
    return [tuple(row) for row in await conn.execute(query.order_by(*sealed.row).limit(_LOOKED_AT))]


async def _reseal_one(
    conn: AsyncConnection,
    sealed: SealedColumn,
    row: tuple[Any, ...],
    secrets_file: SecretsFile,
    entropy: Entropy,
) -> bool | None:
    """Whether it opened, and is sealed anew; None where it was changed or is gone."""
    this = and_(*(column == value for column, value in zip(sealed.row, row, strict=True)))
    old = await conn.scalar(select(sealed.column).where(this))
    if old is None:
        return None
    about = sealed.about(*row)
    try:
        fresh = secrets_file.seal(secrets_file.unseal(old, about), about, entropy)
    except SecretsFileError:
        return False
    ours = await conn.execute(
        update(sealed.column.table).where(this, sealed.column == old).values({sealed.column: fresh})
    )
    return True if ours.rowcount == 1 else None


def _head(sealed: SealedColumn) -> Any:
    """The first bytes of a value, which say what sealed it: the rest of a large one is not read."""
    return func.substr(sealed.column, 1, SecretsFile.SEAL_HEAD, type_=LargeBinary)
