"""The registry of commands: which module each is in, and how a command line becomes a call of one.

Each command's module is loaded when it is called, because loading all of them takes longer than most of them run.
"""

from collections.abc import Mapping, Sequence

from cyclopts import App, CycloptsError

from penstock import __version__
from penstock.errors import OperatorError


class CalledWrongly(OperatorError):
    """There is no such command, or it has no such option."""

    exit_code = 2


app = App(
    name="penstock",
    help="A self-hostable LLM API gateway: `penstock serve` runs it, the rest looks after it.",
    version=__version__,
    help_epilogue="Settings come from the environment (PENSTOCK_...) and penstock.toml; see `penstock settings`.",
)
app.command("penstock.commands.serve:serve", name="serve")
app.command("penstock.commands.user:app", name="user")
app.command("penstock.commands.key:app", name="key")
app.command("penstock.commands.setup_link:make_link", name="setup-link")
app.command(
    "penstock.commands.staff:app", name="staff", help="Show and change who works here, and in which role."
)
app.command(
    "penstock.commands.audit:app",
    name="audit",
    help="Show, verify and export the trail of what staff and commands did.",
)
app.command(
    "penstock.commands.catalog:app",
    name="catalog",
    help="Show, change and export providers, models and plans.",
)
app.command("penstock.commands.upstream:upstreams", name="upstreams")
app.command(
    "penstock.commands.upstream:app",
    name="upstream",
    help="Show, test and steer providers: drain, disable, enable, reset; and their keys.",
)
app.command(
    "penstock.commands.route:app", name="route", help="Explain who would be asked for a model, and who was."
)
app.command("penstock.commands.models:app", name="models")
app.command("penstock.commands.usage:usage", name="usage")
app.command("penstock.commands.reconcile:reconcile", name="reconcile")
app.command("penstock.commands.notice:app", name="notice")
app.command("penstock.commands.mail:app", name="mail")
app.command(
    "penstock.commands.webhook:app",
    name="webhook",
    help="Send events to webhooks and mail addresses, by rules.",
)
app.command(
    "penstock.commands.export:app",
    name="export",
    help="Export settled requests to a webhook, to files, to a bucket or to a collector.",
)
app.command("penstock.commands.settings:settings", name="settings")
app.command("penstock.commands.doctor:examine", name="doctor")
app.command("penstock.commands.drill:drill", name="drill")
app.command(
    "penstock.commands.token:app", name="token", help="Make, list and revoke tokens of the admin API."
)
app.command(
    "penstock.commands.capture:app",
    name="capture",
    help="Keep what an account asks and gets for a time, sealed; and read it for a reason.",
)
app.command("penstock.commands.secrets:secrets_app", name="secrets")
app.command("penstock.commands.backup:backup", name="backup")
app.command("penstock.commands.migrate:migrate", name="migrate")
app.command("penstock.commands.move:move_to", name="move")
app.command("penstock.commands.serve:simulate", name="simulate")


LINES: Mapping[str, str] = {
    "serve": "Run the gateway until it is stopped.",
    "user": "Make, change and list accounts.",
    "key": "Make, list, revoke and roll API keys.",
    "catalog": "Show, change and export providers, models and plans.",
    "upstreams": "Show what is known of every provider.",
    "upstream": "Show, test and steer providers: drain, disable, enable, reset; and their keys.",
    "route": "Explain who would be asked for a model, and who was.",
    "models": "See what the providers have, publish it, take it back.",
    "usage": "Show what an account has used on a day.",
    "reconcile": "Compare the counts of a day with the rows behind them.",
    "notice": "Tell everybody of trouble, and of what is new.",
    "mail": "Try the way that mails take.",
    "webhook": "Send events to webhooks and mail addresses, by rules.",
    "export": "Export settled requests to a webhook, to files, to a bucket or to a collector.",
    "settings": "Show every setting: its value, and where that comes from.",
    "doctor": "Check whether the installation is sound.",
    "drill": "Play the failure of a provider for the requests of one key.",
    "staff": "Give and take the roles of those who work here.",
    "setup-link": "Make the link by which the first owner comes in.",
    "token": "Make, list and revoke tokens of the admin API.",
    "capture": "Keep what an account asks and gets for a time, and read it.",
    "audit": "List, export and verify the trail of what was done.",
    "secrets": "Look after the secrets file: what it holds, and new secrets.",
    "backup": "Copy the database, or say that it was copied.",
    "migrate": "Bring the database to what this version needs.",
    "move": "Move everything to another database.",
    "simulate": "Run the scripted provider, for drills.",
}
"""The line of each command in ``penstock --help``, for which no command's module is loaded."""


def _listing() -> App:
    """The command line as ``penstock --help`` lists it."""
    listing = App(name=app.name, help=app.help, version=__version__, help_epilogue=app.help_epilogue)
    for name, line in LINES.items():
        listing.command(f"penstock.commands.{name}:app", name=name, help=line)
    return listing


def call(arguments: Sequence[str]) -> int:
    """Call the command that the arguments name; its exit code. Raises ``CalledWrongly``, and what the command raises."""
    listed = not arguments or arguments[0] in ("--help", "-h")
    try:
        result = (_listing() if listed else app)(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        raise CalledWrongly(str(error)) from error
    return result if isinstance(result, int) else 0
