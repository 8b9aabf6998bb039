"""``penstock migrate``: brings the database to this program's schema; a module of its own, because Alembic takes 12 MB."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from penstock.commands.installation import HERE, answer, answer_json, read_settings
from penstock.commands.options import At
from penstock.domain.ledger.ledger import DIRECTORY
from penstock.domain.ledger.recovery import check_journals
from penstock.store.instance_lock import InstanceLock
from penstock.store.sql.database import database_directory
from penstock.store.sql.migrate import back_up_older, migrate_database, revision_of
from penstock.store.sql.schema import HEAD


class _Migrated(msgspec.Struct):
    before: str | None
    after: str
    backup: str | None = None


def migrate(
    *,
    check: Annotated[bool, Parameter(negative="")] = False,
    backup: bool = True,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> int:
    """Bring the database to the schema of this program. Serving does that too; this is for doing it apart.

    Example: penstock migrate --data /var/lib/penstock

    Parameters
    ----------
    check
        Only say what would be done; the exit status is 1 when there is something.
    backup
        Copy a SQLite database before it is changed, to a file beside it.
    json
        Print {"before", "after", "backup"}.
    """
    settings = read_settings(place).settings
    url = settings.database_url
    before = revision_of(url)
    check_journals(settings.data / DIRECTORY)
    if check:
        _say(_Migrated(before, HEAD), json, "to do: from {} to schema {}")
        return int(before != HEAD)
    copy: Path | None = None
    with ExitStack() as locks:
        directory = database_directory(url)
        if before != HEAD and directory is not None:
            locks.callback(InstanceLock.take(directory).release)
            copy = back_up_older(url) if backup else None
        before, after = migrate_database(url)
    _say(
        _Migrated(before, after, None if copy is None else str(copy)), json, "Migrated from {} to schema {}."
    )
    return 0


def _say(found: _Migrated, json: bool, text: str) -> None:
    if json:
        answer_json(found)
    elif found.before == found.after:
        answer(f"The database is at schema {found.after} already.")
    else:
        if found.backup is not None:
            answer(f"Copied to {found.backup}")
        answer(text.format(found.before or "nothing", found.after))
