"""What commands share: the installation that they work on, and how they answer."""

import asyncio
import getpass
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.limits import day_of
from penstock.core.quoting import json_text, terminal_text, visible
from penstock.domain.trail.entries import Actor
from penstock.errors import OperatorError
from penstock.operations.first_start import Store, open_store
from penstock.settings import Loaded, environment, load
from penstock.store.secrets_file import Entropy

T = TypeVar("T")


class CommandError(OperatorError):
    """A command cannot do what it was asked; the text is one line for the operator."""


@dataclass(frozen=True)
class Installation:
    """Which installation a command works on."""

    data: Path | None = None
    """Data directory, in place of PENSTOCK_DATA."""
    config: Path | None = None
    """Settings file, in place of penstock.toml."""


HERE = Installation()


def read_settings(place: Installation, flags: dict[str, str] | None = None) -> Loaded:
    """The settings, with what the command line says; warnings go to stderr. Raises ``SettingsError``."""
    flags = dict(flags or {})
    if place.data is not None:
        flags["data"] = str(place.data)
    loaded = load(environment(), file=place.config, flags=flags)
    for warning in loaded.warnings:
        tell(f"penstock: {warning}")
    return loaded


@asynccontextmanager
async def open_installation(place: Installation) -> AsyncGenerator[Store]:
    """The installation, ready for use. Raises ``SettingsError``, ``StoreError``."""
    async with open_store(read_settings(place).settings) as store:
        yield store


class Acting(TypedDict):
    """When something is done, and where its ids and secrets come from."""

    now: int
    entropy: Entropy


def in_transaction(place: Installation, do: Callable[[Store, AsyncConnection], Awaitable[T]]) -> T:
    """What ``do`` gives, in one transaction on the installation."""

    async def done() -> T:
        async with open_installation(place) as store, store.database.transaction() as conn:
            return await do(store, conn)

    return asyncio.run(done())


def acting() -> Acting:
    """Now, and at random."""
    return Acting(now=now_ms(), entropy=secrets.token_bytes)


def now_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


def cli_actor() -> Actor:
    """Who runs this command, as the operating system calls them; the trail marks that this proves nothing."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # in a container without a row for its user
        name = f"uid {os.getuid()}"
    return Actor("cli", "", name)


def answer(text: str) -> None:
    """What was asked for, on stdout."""
    sys.stdout.write(f"{terminal_text(text)}\n")


def answer_json(value: object) -> None:
    """What was asked for, as one JSON object on stdout."""
    answer(json_text(msgspec.json.encode(value).decode()))


def answer_one(value: object, *lines: str, json: bool) -> None:
    """What was asked for: as one JSON object, or in words."""
    if json:
        answer_json(value)
    else:
        for line in filter(None, lines):
            answer(line)


def tell(text: str) -> None:
    """A word to the operator, on stderr."""
    sys.stderr.write(f"{terminal_text(text)}\n")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows in columns, as plain text that tools can cut."""
    rows = [tuple(visible(cell) for cell in row) for row in rows]
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def utc_moment(ms: int | None) -> str:
    """An instant as ``2026-11-25 01:58`` UTC; a dash for none."""
    return "-" if ms is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(ms / 1000))


def day_named(text: str | None) -> tuple[int, str]:
    """The day that an option names, by default today: its UTC number, and its date. Raises ``CommandError``."""
    try:
        at = datetime.now(UTC) if text is None else datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise CommandError(f"{text!r} is not a day such as 2026-11-25") from None
    return day_of(at.timestamp()), at.strftime("%Y-%m-%d")
