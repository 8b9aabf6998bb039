"""``penstock backup``: copies the database, or notes that it was copied, so that staff are told when that is long ago."""

import asyncio
import secrets
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from penstock.commands.installation import (
    HERE,
    CommandError,
    Installation,
    answer,
    answer_json,
    cli_actor,
    now_ms,
    open_installation,
)
from penstock.commands.options import At
from penstock.domain.notifications.jobs import note_done
from penstock.domain.notifications.watch import BACKUP
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Subject
from penstock.store.sql.backup import copy_into


class _Made(msgspec.Struct):
    at: int
    copy: str | None


def backup(
    directory: Path | None = None,
    /,
    *,
    made: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Copy a SQLite database into a directory while it is in use; staff are told when the last one is `backup_hours` old.

    The copy is one moment's, and is looked through before it takes the place of an older one. The secrets file is not
    copied: keep it in another place. PostgreSQL is copied by pg_dump, and then `--made` says so.

    Examples
    --------
    penstock backup /srv/copies
    pg_dump ... && penstock backup --made

    Parameters
    ----------
    directory
        Where the copy goes.
    made
        Nothing is copied: it was done, by pg_dump or as a snapshot of the disk.
    json
        Print {"at", "copy"}.
    """
    if (directory is None) != made:
        raise CommandError("say where the copy goes, or --made where it was made by other means")
    done = asyncio.run(_backup(place, directory))
    if json:
        answer_json(done)
    elif done.copy is None:
        answer("Noted: a copy was made.")
    else:
        answer(
            f"Copied to {done.copy}. The secrets file belongs to it: keep a copy of that in another place."
        )


async def _backup(place: Installation, directory: Path | None) -> _Made:
    async with open_installation(place) as store:
        at, copy = now_ms(), None
        if directory is not None:
            path = store.database.path
            if path is None:
                raise CommandError("PostgreSQL is copied by pg_dump; then say `penstock backup --made`")
            copy = await asyncio.to_thread(copy_into, path, directory)
        async with store.database.transaction() as conn:
            await note_done(conn, BACKUP, at=at)
            await entries.write(
                conn,
                cli_actor(),
                "backup_made",
                Subject("backup", BACKUP),
                after={"copied": copy is not None},
                now=at,
                entropy=secrets.token_bytes,
            )
        return _Made(at, None if copy is None else str(copy))
