"""The command line: which command is where, and how its failures are told.

Each command's module is loaded when it is called, because loading all of them takes longer than most of them run.
"""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from penstock import __version__
from penstock.commands.place import CommandError
from penstock.domain.catalog_toml import CatalogError
from penstock.errors import PenstockError
from penstock.server import CannotListen
from penstock.settings import SettingsError
from penstock.store.backend import StoreError

app = App(
    name="penstock",
    help="A self-hostable LLM API gateway: `penstock serve` runs it, the rest looks after it.",
    version=__version__,
    help_epilogue="Settings come from the environment (PENSTOCK_...) and penstock.toml; see `penstock settings`.",
)
app.command("penstock.commands.serving:serve", name="serve")
app.command("penstock.commands.people:app", name="user")
app.command("penstock.commands.keys:app", name="key")
app.command(
    "penstock.commands.catalogue:app",
    name="catalog",
    help="Show, change and export providers, models and plans.",
)
app.command("penstock.commands.looking:usage", name="usage")
app.command("penstock.commands.reconciling:reconcile", name="reconcile")
app.command("penstock.commands.looking:settings", name="settings")
app.command("penstock.commands.looking:examine", name="doctor")
app.command("penstock.commands.looking:secrets_app", name="secrets")
app.command("penstock.commands.migrating:migrate", name="migrate")
app.command("penstock.commands.moving:move_to", name="move")
app.command("penstock.commands.serving:simulate", name="simulate")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 1 when it failed, 2 when it was called wrongly."""
    try:
        result = app(
            None if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        return _failed(str(error), 2)
    except SettingsError as error:
        return _failed(str(error), 1)
    except CatalogError as error:
        return _failed(str(error), 1)
    except PenstockError as error:
        return _failed(error.message, 1)
    except (CommandError, StoreError, CannotListen) as error:
        return _failed(str(error), 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`penstock user list | head`); nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return result if isinstance(result, int) else 0


def _failed(text: str, code: int) -> int:
    for line in text.splitlines():
        sys.stderr.write(f"penstock: {line}\n")
    return code
