"""``penstock secrets``: makes the secrets file, and rotates its keys."""

import asyncio
import secrets
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

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
from penstock.core.amounts import amount
from penstock.domain.sealed_columns import SEALED_COLUMNS
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Subject
from penstock.operations.first_start import Store
from penstock.store.sealed import older_seals, reseal
from penstock.store.secrets_file import SecretsFile

secrets_app = App(name="secrets", help="The secrets file: peppers of API keys and keys of sealed copies.")


class _Sealed(msgspec.Struct):
    """``resealed`` values are sealed anew, ``shut`` did not open; ``unused`` are keys of the ring that nothing needs."""

    seal: str
    resealed: int
    shut: int
    unused: tuple[str, ...]


class _Rotated(_Sealed):
    pepper: str


@secrets_app.command
def make(file: Path) -> None:
    """Make a secrets file for an installation that does not have one yet, to be given to all its servers.

    Example: penstock secrets make secrets.json

    Parameters
    ----------
    file
        Where to write it; a file that exists is left as it is, and that is an error.
    """
    if file.exists():
        raise CommandError(f"{file} exists already; no secrets file is ever replaced")
    SecretsFile.make(file, secrets.token_bytes)
    answer(f"Made {file}. Servers find it by PENSTOCK_SECRET_FILE; keep a copy apart from the database's.")


@secrets_app.command
def rotate(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """Put a new pepper and a new sealing key first, and seal anew what is sealed; all keys go on working.

    Example: penstock secrets rotate

    Parameters
    ----------
    json
        Print {"pepper", "seal", "resealed", "shut", "unused"}.
    """
    done = asyncio.run(_rotate(place))
    if json:
        answer_json(done)
        return
    answer(
        f"New pepper {done.pepper} and sealing key {done.seal}; {amount(done.resealed, 'copy', 'copies')} sealed anew."
    )
    _tell_shut(done)
    answer("The old ones stay in the file: keys made with them need them. Back the file up now.")


@secrets_app.command(name="reseal")
def reseal_all(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """Seal anew what older sealing keys have sealed, and say which of these nothing needs any more.

    A rotation does it, and running servers do what was written meanwhile. Before an older sealing key is taken out of the file,
    this says whether it may be.

    Example: penstock secrets reseal

    Parameters
    ----------
    json
        Print {"seal", "resealed", "shut", "unused"}.
    """
    done = asyncio.run(_reseal(place))
    if json:
        answer_json(done)
        return
    answer(f"{amount(done.resealed, 'copy', 'copies')} sealed anew with the sealing key {done.seal}.")
    _tell_shut(done)
    if done.unused:
        answer(f"Nothing in the database needs these sealing keys any more: {', '.join(done.unused)}.")


def _tell_shut(done: _Sealed) -> None:
    if done.shut:
        answer(
            f"{amount(done.shut, 'copy does', 'copies do')} not open: the file lacks what that was sealed with."
        )


async def _rotate(place: Installation) -> _Rotated:
    async with open_installation(place) as store:
        store.secrets_file.rotate(secrets.token_bytes)
        async with store.database.transaction() as conn:
            await entries.write(
                conn,
                cli_actor(),
                "secrets_rotated",
                Subject("secrets", store.secrets_file.seal_id),
                after={"pepper": store.secrets_file.pepper_id, "seal": store.secrets_file.seal_id},
                now=now_ms(),
                entropy=secrets.token_bytes,
            )
        done = await _sealed_anew(store)
        return _Rotated(done.seal, done.resealed, done.shut, done.unused, store.secrets_file.pepper_id)


async def _reseal(place: Installation) -> _Sealed:
    async with open_installation(place) as store:
        return await _sealed_anew(store)


async def _sealed_anew(store: Store) -> _Sealed:
    ring = store.secrets_file
    done = await reseal(store.database, SEALED_COLUMNS, ring, secrets.token_bytes)
    async with store.database.connect() as conn:
        needed = await older_seals(conn, SEALED_COLUMNS, ring)
    unused = tuple(id for id in ring.seal_ids if id != ring.seal_id and id not in needed)
    return _Sealed(ring.seal_id, done.done, done.shut, unused)
