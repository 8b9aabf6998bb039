"""``penstock migrate``, apart from the commands that serve because Alembic takes 12 MB and is needed here alone."""

from typing import Annotated

import msgspec
from cyclopts import Parameter

from penstock.commands.place import HERE, Place, answer, answer_json, read_settings
from penstock.store.migrate import migrate as migrate_database


class _Migrated(msgspec.Struct):
    before: str | None
    after: str


def migrate(*, json: Annotated[bool, Parameter(negative="")] = False, place: Place = HERE) -> None:
    """Bring the database to the schema of this program. Serving does that too; this is for doing it apart.

    Example: penstock migrate --data /var/lib/penstock

    Parameters
    ----------
    json
        Print {"before", "after"}.
    """
    before, after = migrate_database(read_settings(place).settings.database_url)
    if json:
        answer_json(_Migrated(before, after))
    elif before == after:
        answer(f"The database is at schema {after} already.")
    else:
        answer(f"Migrated from {before or 'nothing'} to schema {after}.")
