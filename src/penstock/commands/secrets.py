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
from penstock.domain.catalog.kept_keys import reseal_provider_keys
from penstock.domain.exports.destinations import reseal_destinations
from penstock.domain.keys import management
from penstock.domain.notifications.webhooks import reseal_webhooks
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Subject
from penstock.store.secrets_file import SecretsFile

secrets_app = App(name="secrets", help="The secrets file: peppers of API keys and keys of sealed copies.")


class _Rotated(msgspec.Struct):
    pepper: str
    seal: str
    resealed: int


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
    """Put a new pepper and a new sealing key first; all keys go on working, running servers follow.

    Example: penstock secrets rotate

    Parameters
    ----------
    json
        Print {"pepper", "seal", "resealed"}.
    """
    done = asyncio.run(_rotate(place))
    if json:
        answer_json(done)
    else:
        answer(f"New pepper {done.pepper} and sealing key {done.seal}; {done.resealed} copies sealed anew.")
        answer("The old ones stay in the file: keys made with them need them. Back the file up now.")


async def _rotate(place: Installation) -> _Rotated:
    async with open_installation(place) as store:
        store.secrets_file.rotate(secrets.token_bytes)
        async with store.database.transaction() as conn:
            resealed = await management.reseal_keys(conn, store.secrets_file, secrets.token_bytes)
            for reseal in (reseal_provider_keys, reseal_webhooks, reseal_destinations):
                resealed += await reseal(conn, store.secrets_file, secrets.token_bytes)
            await entries.write(
                conn,
                cli_actor(),
                "secrets_rotated",
                Subject("secrets", store.secrets_file.seal_id),
                after={
                    "pepper": store.secrets_file.pepper_id,
                    "seal": store.secrets_file.seal_id,
                    "resealed": resealed,
                },
                now=now_ms(),
                entropy=secrets.token_bytes,
            )
    return _Rotated(store.secrets_file.pepper_id, store.secrets_file.seal_id, resealed)
