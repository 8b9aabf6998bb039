"""Logging: lines on stderr with a fixed list of fields, written by a thread so that no request waits for the terminal.

Only what ``LOG_FIELDS`` names is ever written beside a message, so a header, a body or a prompt cannot get into a log by
being at hand; what looks like a credential in a text is hidden as a second net.
"""

import atexit
import logging
import re
import threading
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Literal

import msgspec

from penstock.core.quoting import json_text, log_value, visible
from penstock.operations.output import STDERR, write_whole

LOG_FIELDS = (
    "request_id",
    "trace_id",
    "provider",
    "credential",
    "upstream_model",
    "failure_class",
    "status",
    "code",
    "error",
    "known",
    "seconds",
    "revision",
    "rows",
    "plan",
)
"""The names under which a record may carry more than its message (``extra={"code": ...}``)."""

_LAST_LINES = 2.0
"""Seconds for the lines that wait when the process ends."""

_CREDENTIAL = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}|(?i:\bbearer\s+)[^\s\"']{8,}|://[^/\s:]*:[^\s/]+@")


OURS = ("penstock",)
"""Whose records are written at every level. Libraries write what they work with, such as statements with their values and
headers, so of theirs only warnings and worse are."""
_TALKATIVE = ("aiosqlite", "asyncio", "sqlalchemy")
"""Libraries that would write a record for each statement or connection: they need not make it."""
_DETAIL = re.compile(r"^DETAIL:.*?(?=^\[SQL: |^\(Background on |^HINT:|^\n|\Z)", re.MULTILINE | re.DOTALL)
"""PostgreSQL's DETAIL, which quotes the row that it is about."""


def configure(level: str, form: Literal["text", "json"], *, backlog: int = 10_000) -> None:
    """Send all logging of the process to stderr, in this form, from ``level`` (``info``) up.

    ``backlog`` is how many records may wait for whoever reads them. Those that come then are left out, and counted.
    """
    lines = _StderrLines(JsonLines() if form == "json" else Lines(), backlog)
    root = logging.getLogger()
    lines.addFilter(is_allowed)
    root.handlers = [lines]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    lines.start()
    atexit.register(lines.stop)


def is_allowed(record: logging.LogRecord) -> bool:
    """Whether a record is written: all of ours, and the warnings of others."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in OURS


class _StderrLines(QueueHandler):
    """Hands records to a thread of this process, which formats and writes them."""

    def __init__(self, formatter: logging.Formatter, backlog: int) -> None:
        self._records: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        super().__init__(self._records)
        self._form = formatter
        self._backlog = backlog
        self._left_out = 0
        self._thread = threading.Thread(target=self._write_all, name="penstock-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end. Where nobody reads it, the end of the process does not wait for that."""
        self._records.put(None)
        self._thread.join(_LAST_LINES)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record itself."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Called by one thread at a time: a handler has a lock for that."""
        if self._records.qsize() < self._backlog:
            self._records.put(record)
        else:
            self._left_out += 1

    def _write_all(self) -> None:
        while (record := self._records.get()) is not None:
            self._write(record)
            if self._left_out:
                with self.lock or nullcontext():
                    count, self._left_out = self._left_out, 0
                text = "the log was read too slowly: lines were left out"
                told = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
                told.rows = count
                self._write(told)

    def _write(self, record: logging.LogRecord) -> None:
        try:
            line = self._form.format(record)
        except Exception as error:  # noqa: BLE001 - one record that cannot be written must not end all writing
            line = (
                f"{record.name}: a record of line {record.lineno} cannot be written ({type(error).__name__})"
            )
        with suppress(OSError):  # nobody can read it, and there is nowhere to say so
            write_whole(STDERR, f"{line}\n")


class Lines(logging.Formatter):
    """``2026-11-25T01:58:03Z WARNING penstock.relay.relay: provider failed code=provider_timeout``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback where there is one stands below it, further in, so that no line of it looks like a record."""
        fields = "".join(
            f" {name}={log_value(value) if isinstance(value, str) else value}"
            for name, value in _fields(record).items()
        )
        event, traceback = visible(_event(record)), _traceback(self, record)
        below = "".join(f"\n  {visible(line)}" for line in traceback.split("\n")) if traceback else ""
        return f"{_time(record)} {record.levelname} {record.name}: {event}{fields}{below}"


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, the fields, and ``traceback``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
        }
        entry |= _fields(record)
        traceback = _traceback(self, record)
        if traceback:
            entry["traceback"] = traceback
        return json_text(msgspec.json.encode(entry).decode())


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _event(record: logging.LogRecord) -> str:
    return hide(record.getMessage())


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if not record.exc_info:
        return ""
    return hide(_DETAIL.sub("DETAIL: (hidden)\n", formatter.formatException(record.exc_info)))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found = {name: getattr(record, name, None) for name in LOG_FIELDS}
    return {
        name: hide(value) if isinstance(value, str) else value
        for name, value in found.items()
        if isinstance(value, str | int | float)
    }


def hide(text: str) -> str:
    """``text`` without what looks like a credential, and without half characters, which no encoding has."""
    return _CREDENTIAL.sub("(hidden)", text.encode(errors="backslashreplace").decode())
