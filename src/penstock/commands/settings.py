"""``penstock settings``: prints the settings in force, and where each comes from."""

from typing import Annotated

import msgspec
from cyclopts import Parameter

from penstock.commands.installation import (
    HERE,
    answer,
    answer_json,
    read_settings,
    table,
)
from penstock.commands.options import At
from penstock.settings import markdown, rows, shown_value


class _Setting(msgspec.Struct):
    value: str
    origin: str


def settings(
    *,
    markdown_: Annotated[bool, Parameter(name="--markdown", negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Show the settings in force and where each comes from, without passwords.

    Example: penstock settings --json

    Parameters
    ----------
    markdown_
        Print the table of docs/configuration.md instead.
    json
        Print {"name": {"value", "origin"}}.
    """
    if markdown_:
        answer(markdown().rstrip())
        return
    loaded = read_settings(place)
    found = {
        row.name: _Setting(shown_value(loaded.settings, row.name), loaded.origins.get(row.name, "default"))
        for row in rows()
    }
    if json:
        answer_json(found)
    else:
        answer(
            table(
                ("SETTING", "VALUE", "FROM"),
                [(name, it.value or "-", it.origin) for name, it in found.items()],
            )
        )
