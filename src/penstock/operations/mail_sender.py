"""The mail sender: takes mails from the outbox when they are due, sends them by ``mail_url``, and tries again.

One per process. Of several processes each mail is taken up by one; one that dies with a mail in hand leaves it due again.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from html import escape
from pathlib import Path
from typing import Protocol

import msgspec

from penstock.core.quoting import header_text, terminal_text
from penstock.domain.mail import outbox
from penstock.domain.mail.outbox import Due, Mail
from penstock.errors import DatabaseUnavailable, OperatorError
from penstock.operations.output import STDOUT, NobodyReads, Printer
from penstock.settings.service_url import ServiceUrl, ServiceUrlError, strange_options
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database
from penstock.timeouts import to_its_end

log = logging.getLogger("penstock.operations.mail_sender")

_LAST_MAIL = 1.0
"""Seconds that a mail on its way has when the server stops; a row that was taken is sent again after a while."""
POLL_SECONDS = 5.0
"""How long a mail may wait that another process queued, or that is to be tried again."""
SMTP_SECONDS = 20.0
"""How long a mail server may take for one answer."""
PRINT_SECONDS = 2.0
"""How long whoever reads the standard output may take for a mail."""
SMTP_ANSWERS = 5
"""How many times as long it may take for a mail."""
HOLD_SECONDS = 150.0
"""For how long a mail is this server's own once it was taken up: all that a mail server may take for it, and some more."""
SUBMISSION, SUBMISSIONS = 587, 465
"""The ports where mail is handed in: STARTTLS is offered, TLS from the start (RFC 8314)."""
LOOK_SECONDS = 300.0
"""How often the mail server is looked at, whether or not there is a mail for it."""
LONGEST_REASON = 300
"""How much of what a mail server says is kept, in characters."""


class NotSent(Exception):
    """The mail was not taken. ``lasting``: trying again is of no use. ``of_mail``: this one was refused, and says nothing of
    others. ``let_in``: the server had let us in, so that only a mail shows whether it is over."""

    def __init__(
        self, text: str, *, lasting: bool = False, of_mail: bool = False, let_in: bool = False
    ) -> None:
        super().__init__(text)
        self.lasting = lasting
        self.of_mail = lasting or of_mail
        self.let_in = let_in


class MailUrlError(OperatorError):
    """The setting ``mail_url`` cannot be used; the message is for the operator, without the URL's text."""


class MailTransport(Protocol):
    """Where mails go."""

    async def send(self, message: EmailMessage) -> None:
        """Hand the mail over. Raises ``NotSent``."""
        ...


class Console:
    """Prints each mail: for trying things on one machine. The log would be the wrong place for a code."""

    def __init__(self, seconds: float = PRINT_SECONDS) -> None:
        """``seconds`` is how long whoever reads may take for a mail."""
        self._printer = Printer(STDOUT, seconds)

    async def send(self, message: EmailMessage) -> None:
        body = message.get_body(("plain",))
        text = "" if body is None else body.get_content()
        try:
            await self._printer.send(
                terminal_text(f"\nMail to {message['to']}: {message['subject']}\n\n{text}\n")
            )
        except NobodyReads:
            raise NotSent("nobody reads the standard output") from None
        except OSError as error:
            raise NotSent(f"cannot write to the standard output: {error.strerror}") from error


class Files:
    """Writes each mail as an .eml file of its own, whole or not at all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    async def send(self, message: EmailMessage) -> None:
        self._count += 1
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        path = self._directory / f"{stamp}-{self._count:04d}.eml"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_suffix(".new")
            fresh.write_bytes(bytes(message))
            fresh.rename(path)
        except OSError as error:
            raise NotSent(f"cannot write {path}: {error.strerror}") from error


class _SmtpAddress(msgspec.Struct, frozen=True):
    """``start_tls`` True: it has to; None: where the server offers it."""

    host: str
    port: int
    tls: bool
    start_tls: bool | None
    user: str | None
    password: str | None


_TLS_FROM_THE_START = ("smtps", "smtp+ssl", "smtp+tls")
_START_TLS = ("smtp+starttls",)
SMTP_SCHEMES = ("smtp", *_TLS_FROM_THE_START, *_START_TLS)
"""What an address of a mail server may begin with."""


def _smtp_address(url: ServiceUrl) -> _SmtpAddress:
    """What the URL means. Raises ``ServiceUrlError``."""
    if url.scheme not in SMTP_SCHEMES:
        raise ServiceUrlError("it begins with smtp:// or smtps://")
    if url.options:
        told = strange_options({name for name, _ in url.options})
        raise ServiceUrlError(
            f"it has options that are not known: {told}; smtps:// is TLS from the start, smtp+starttls:// asks for STARTTLS"
        )
    if url.path not in ("", "/") or len(url.hosts) > 1:
        raise ServiceUrlError("it is one host with its port, and nothing behind them")
    if url.password and not url.user:
        raise ServiceUrlError("it has a password without a user")
    host = url.host or "localhost"
    # At 465 a server speaks TLS first (RFC 8314): without it both sides would wait for the other.
    tls = url.scheme in _TLS_FROM_THE_START or (url.scheme == "smtp" and url.port == SUBMISSIONS)
    nearby = host in {"localhost", "127.0.0.1", "::1"}
    must = url.scheme in _START_TLS or (url.user is not None and not nearby)
    start_tls = True if must and not tls else None
    port = url.port or (SUBMISSIONS if tls else SUBMISSION)
    return _SmtpAddress(host, port, tls, start_tls, url.user, url.password or None)


class Smtp:
    """Sends over SMTP: ``smtps://`` with TLS from the start, ``smtp://`` with STARTTLS where the server offers it.

    A password goes over TLS alone, but on this machine: otherwise whoever sits between could take the offer away and read it.
    """

    def __init__(self, url: str, *, seconds: float = SMTP_SECONDS) -> None:
        """``seconds`` is how long one answer may take. Raises ``MailUrlError``."""
        self._seconds = seconds
        try:
            address = _smtp_address(ServiceUrl.read(url))
        except ServiceUrlError as error:
            raise MailUrlError(f"the address of the mail server cannot be used: {error}") from None
        self._host, self._port, self._tls, self._start_tls = (
            address.host,
            address.port,
            address.tls,
            address.start_tls,
        )
        self._user, self._password = address.user, address.password

    async def send(self, message: EmailMessage) -> None:
        import aiosmtplib  # noqa: PLC0415 - only where mail goes over SMTP

        try:
            async with asyncio.timeout(SMTP_ANSWERS * self._seconds):
                await aiosmtplib.send(
                    message,
                    hostname=self._host,
                    port=self._port,
                    username=self._user,
                    password=self._password,
                    use_tls=self._tls,
                    start_tls=self._start_tls,
                    timeout=self._seconds,
                )
        except aiosmtplib.SMTPRecipientsRefused as error:
            worst = max(error.recipients, key=lambda refused: refused.code)
            if _is_ours(worst.code, worst.message):
                raise NotSent(f"{worst.code} we may not send to the recipient", let_in=True) from error
            raise NotSent(
                f"{worst.code} the recipient was refused", lasting=worst.code >= 500, of_mail=True
            ) from error
        except aiosmtplib.SMTPDataError as error:
            lasting = 500 <= error.code < 600
            raise NotSent(_answer(error.code, error.message), lasting=lasting, let_in=True) from error
        except aiosmtplib.SMTPResponseException as error:
            # The greeting, sign-in and MAIL FROM are about us, whatever the code: every mail would be lost for it.
            let_in = isinstance(error, aiosmtplib.SMTPSenderRefused)
            raise NotSent(_answer(error.code, error.message), let_in=let_in) from error
        except Exception as error:  # its answers may be anything, and no mail is lost for it
            raise NotSent(f"{type(error).__name__}: the server at {self._host}:{self._port}") from error

    async def look(self) -> None:
        """Connect, with TLS and sign-in as for a mail, and leave. Raises ``NotSent``."""
        import aiosmtplib  # noqa: PLC0415 - only where mail goes over SMTP

        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._tls,
            start_tls=self._start_tls,
            timeout=self._seconds,
        )
        try:
            async with asyncio.timeout(SMTP_ANSWERS * self._seconds), client:
                await client.noop()
        except aiosmtplib.SMTPResponseException as error:
            raise NotSent(_answer(error.code, error.message)) from error
        except Exception as error:
            raise NotSent(f"{type(error).__name__}: the server at {self._host}:{self._port}") from error


def _answer(code: int, text: str) -> str:
    """What a mail server says, as it may stand in the log and on a page."""
    return f"{code} " + "".join(one if one.isprintable() else " " for one in text[:LONGEST_REASON])


def _is_ours(code: int, text: str) -> bool:
    """Whether a refusal of the recipient is about us: the server is closing, wants a sign-in, or relays nothing for us.

    By RFC 3463 5.7 is of policy; an address that does not exist is 5.1.
    """
    return code in (421, 530) or (code >= 500 and text.startswith("5.7."))


def mail_transport(mail_url: str) -> MailTransport:
    """What the setting ``mail_url`` means. Raises ``MailUrlError``."""
    if mail_url.startswith("file:"):
        return Files(Path(mail_url.removeprefix("file:").removeprefix("//")).absolute())
    return Console() if mail_url == "console:" else Smtp(mail_url)


class MailSender:
    """Sends what is due. ``wake`` it after queueing a mail."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        route: MailTransport,
        sender: str,
        now: Callable[[], float],
        *,
        support: str = "",
    ) -> None:
        """``sender`` is a mail address with or without a name, ``now`` gives epoch seconds.

        ``support`` is where people ask for help: an address, which gets the answers to mails, or a URL.
        """
        self._database = database
        self._secrets_file = secrets_file
        self._route = route
        self._sender = sender
        self._support = support
        self._now = now
        self._woken = asyncio.Event()
        self._round = asyncio.Lock()
        self._looked = -LOOK_SECONDS
        self._let_in = False
        self.trouble: str | None = None
        """Why mails cannot be sent at the moment, for the operator; None where nothing is known against it."""

    def wake(self) -> None:
        """A mail was queued."""
        self._woken.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await to_its_end(self._round_of_mails(), _LAST_MAIL)
            await self._look()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    async def _look(self) -> None:
        """Now and then: whether the mail server would take a mail."""
        if not isinstance(self._route, Smtp) or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            await self._route.look()
        except NotSent as error:
            if self.trouble is None:
                log.warning("the mail server does not take mails", extra={"error": str(error)})
            self.trouble = str(error)
        else:
            if not self._let_in:
                self.trouble = None

    async def _round_of_mails(self) -> None:
        try:
            await self.send_due()
        except DatabaseUnavailable:
            log.warning("the database does not answer; mails wait")
        except Exception:
            log.exception("a round of mails failed")

    async def send_due(self) -> int:
        """Send the mails that are due; how many were sent. One round at a time, so that its end means that they are out."""
        async with self._round:
            return await self._send_due()

    async def _send_due(self) -> int:
        count = 0
        while True:
            async with self._database.connect() as conn:
                if not await outbox.any_due(conn, now=self._now_ms()):
                    return count
            async with self._database.transaction() as conn:
                due = await outbox.take(
                    conn, self._secrets_file, now=self._now_ms(), hold_ms=int(HOLD_SECONDS * 1000)
                )
            if due is not None:
                count += await self._send(due)

    async def _send(self, due: Due) -> bool:
        try:
            message = compose_message(due.mail, self._sender, due.id, self._now(), self._support)
            await self._route.send(message)
        except NotSent as error:
            # A server repeats the address that it refuses.
            text = str(error).replace(due.mail.recipient, "(recipient)")
            log.warning("mail not sent", extra={"code": due.mail.kind, "error": text})
            if not error.of_mail:
                self.trouble, self._let_in = text, error.let_in
            async with self._database.transaction() as conn:
                await outbox.sending_failed(conn, due, str(error), lasting=error.lasting, now=self._now_ms())
            return False
        self.trouble, self._let_in = None, False
        async with self._database.transaction() as conn:
            await outbox.was_sent(conn, due, now=self._now_ms())
        return True

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


def compose_message(mail: Mail, sender: str, id: str, now: float, support: str = "") -> EmailMessage:
    """The mail as it goes out: text, and the same as plain HTML. ``now`` is epoch seconds.

    Raises ``NotSent`` where it cannot be written so that it goes to its recipient alone.
    """
    try:
        message = _composed(mail, sender, id, now, support)
        said = [address.addr_spec for address in message["To"].addresses]
    except ValueError as error:
        raise NotSent(f"cannot be written: {error}", lasting=True) from error
    if said != [mail.recipient]:
        raise NotSent("the address reads as another one in a header", lasting=True)
    return message


def _composed(mail: Mail, sender: str, id: str, now: float, support: str) -> EmailMessage:
    from email.headerregistry import Address  # noqa: PLC0415 - tables of the grammar of mail, for the first mail

    message = EmailMessage()
    name, _, address = sender.rpartition("<")
    local, _, domain = address.rstrip("> ").rpartition("@")
    message["From"] = Address(name.strip(' "'), local, domain)
    message["To"] = mail.recipient
    message["Subject"] = header_text(mail.subject)
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message["Message-ID"] = make_msgid(id, domain=domain)
    message["Auto-Submitted"] = "auto-generated"
    if support and not support.startswith(("https:", "http:")):
        message["Reply-To"] = support
    first, *rest = mail.paragraphs
    if support:
        rest.append(f"Questions? {support}")
    code = [mail.code] if mail.code else []
    message.set_content("\n\n".join([first, *code, *rest]) + "\n")
    large = '<p style="font: 600 28px ui-monospace, monospace; letter-spacing: 6px; margin: 24px 0">{}</p>'
    parts = [f"<p>{escape(first)}</p>", *(large.format(escape(text)) for text in code)]
    parts += [f"<p>{escape(text)}</p>" for text in rest]
    message.add_alternative(
        '<div style="font: 16px/1.5 system-ui, sans-serif; max-width: 32em; margin: 24px auto; padding: 0 16px">'
        + "".join(parts)
        + "</div>",
        subtype="html",
    )
    return message
