"""``penstock mail``: tries the way that mails take."""

import asyncio
import secrets
import time
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from penstock.commands.installation import HERE, CommandError, answer, answer_json, read_settings
from penstock.commands.options import At
from penstock.domain.mail.messages import trial_mail
from penstock.operations.mail_sender import NotSent, compose_message, mail_transport

app = App(name="mail", help="Try the way that mails take.")


class _Sent(msgspec.Struct):
    to: str
    sent: bool


@app.command(name="test")
def send_test(*, to: str, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """Send a test mail now, by the settings of this shell, and say what the mail server says.

    Example: penstock mail test --to you@example.com

    Parameters
    ----------
    to
        Who gets it.
    json
        Print {"to", "sent"}.
    """
    settings = read_settings(place).settings
    transport = mail_transport(settings.mail_url)
    mail = trial_mail(settings.brand, to)
    try:
        asyncio.run(
            transport.send(compose_message(mail, settings.mail_from, secrets.token_hex(8), time.time()))
        )
    except NotSent as error:
        raise CommandError(f"the mail was not taken: {error}") from error
    if json:
        answer_json(_Sent(to, sent=True))
    else:
        answer(f"The mail to {to} was taken.")
