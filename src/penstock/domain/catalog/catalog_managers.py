"""Managers of the catalogue: the files that take care of rows, which pages and commands then leave alone."""

import re
from collections.abc import Mapping
from typing import Literal

from sqlalchemy import Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.catalog.toml_document import CatalogError
from penstock.store.sql.schema import models as models_table
from penstock.store.sql.schema import plans as plans_table
from penstock.store.sql.schema import providers as providers_table

ChangeKind = Literal["provider", "model", "plan"]


class ManagedElsewhere(CatalogError):
    """What would be changed is managed by a file, and not by the one that is applied."""


_MANAGER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_manager(name: str) -> bool:
    """Whether a file can be called so."""
    return _MANAGER.fullmatch(name) is not None


def managed_text(kind: str, id: str, name: str) -> str:
    """What somebody is told who would change it elsewhere."""
    return (
        f'the {kind} "{id}" is managed by the file "{name}": change it there and run '
        f'"penstock catalog apply FILE --as {name}", or let go of it by "penstock catalog release --of {name}"'
    )


_TABLES: Mapping[ChangeKind, Table] = {
    "provider": providers_table,
    "model": models_table,
    "plan": plans_table,
}


async def managers(conn: AsyncConnection) -> dict[tuple[ChangeKind, str], str]:
    """Which file manages which row, of those that one does."""
    found: dict[tuple[ChangeKind, str], str] = {}
    for kind, table in _TABLES.items():
        rows = await conn.execute(
            select(table.c.id, table.c.managed_by)
            .where(table.c.managed_by.is_not(None))
            .order_by(table.c.position)
        )
        found.update({(kind, row.id): row.managed_by for row in rows})
    return found


async def set_manager(conn: AsyncConnection, kind: ChangeKind, id: str, manager: str | None) -> None:
    """A file takes care of a row from now on; None: no file does."""
    table = _TABLES[kind]
    await conn.execute(update(table).where(table.c.id == id).values(managed_by=manager))
