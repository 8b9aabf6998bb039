"""``penstock move``: carries an installation from its SQLite file to PostgreSQL."""

import asyncio
import sys
from contextlib import ExitStack
from typing import Annotated

import msgspec
from cyclopts import Parameter

from penstock.commands.installation import HERE, CommandError, answer, answer_json, read_settings, tell
from penstock.commands.options import At
from penstock.core.amounts import amount
from penstock.domain.ledger.ledger import DIRECTORY
from penstock.domain.ledger.recovery import replay
from penstock.settings import Settings
from penstock.store.instance_lock import InstanceLock
from penstock.store.sql.database import open_database, parse_url
from penstock.store.sql.postgresql_address import PostgresqlAddress
from penstock.store.sql.transfer import MovedTable, move


class _Moved(msgspec.Struct, rename={"source": "from", "target": "to"}):
    source: str
    target: str
    tables: list[MovedTable]


def move_to(
    *,
    to: Annotated[str, Parameter(allow_leading_hyphen=True)],
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Carry a SQLite installation over to an empty PostgreSQL database. The SQLite file stays as it is.

    Example: penstock move --to postgresql://penstock@db.example.com/penstock

    Parameters
    ----------
    to
        The database to fill, as PENSTOCK_DATABASE_URL will name it; - reads it from stdin, unseen by others.
    json
        Print {"from", "to", "tables": [{"name", "rows", "checksum"}]}.
    """
    url = sys.stdin.readline().strip() if to == "-" else to
    moved = _move(read_settings(place).settings, url)
    if json:
        answer_json(moved)
        return
    rows = sum(table.rows for table in moved.tables)
    filled = sum(table.rows > 0 for table in moved.tables)
    answer(
        f"Moved {amount(rows, 'row')} of {amount(filled, 'table')} from {moved.source} to {moved.target}; "
        "read back, they are the same.\n"
        "\n"
        "Now set, with the password and the options that --to was given:\n"
        f"  PENSTOCK_DATABASE_URL={moved.target}\n"
        "and start the server. The data directory is still needed, for the secrets file and the journal.\n"
        "Before a second server is started, set PENSTOCK_REDIS_URL on both, so that they share limits.\n"
        f"{moved.source} is as it was: keep it as a copy, and start no server on it."
    )


def _move(settings: Settings, to: str) -> _Moved:
    address = parse_url(to)
    if not isinstance(address, PostgresqlAddress):
        raise CommandError("--to takes a PostgreSQL database: postgresql://user@host/penstock")
    file = parse_url(settings.database_url)
    if isinstance(file, PostgresqlAddress):
        raise CommandError("this installation is on PostgreSQL already")
    if not file.exists():
        raise CommandError(f"there is no database to move: {file} does not exist")
    with ExitStack() as locks:
        for directory in dict.fromkeys((settings.data.resolve(), file.resolve().parent)):
            locks.callback(InstanceLock.take(directory).release)
        return asyncio.run(_carry(settings, address))


async def _carry(settings: Settings, address: PostgresqlAddress) -> _Moved:
    source = await open_database(settings, migrate=False)
    try:
        # What a killed server did not get to write.
        await replay(source, settings.data / DIRECTORY)
        tell(f"penstock: moving {source.name}; this may take a while")
        tables = await move(source, address)
    finally:
        await source.close()
    return _Moved(source.name, address.name, tables)
