"""Logs hold the fields that are allowed and no others, and nothing that looks like a credential."""

import ast
import logging
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from penstock.operations import logs

SOURCE = Path(logs.__file__).parents[1]


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("penstock.relay.relay", logging.WARNING, "f.py", 1, message, args, None)
    made.__dict__.update(extra)
    made.created = 0.0
    return made


def test_a_line_and_an_object() -> None:
    made = record("provider %s", "failed", code="provider_timeout", status=502, prompt="secret words")
    assert logs.Lines().format(made) == (
        "1970-01-01T00:00:00Z WARNING penstock.relay.relay: provider failed status=502 code=provider_timeout"
    )
    assert msgspec.json.decode(logs.JsonLines().format(made)) == {
        "time": "1970-01-01T00:00:00Z", "level": "warning", "logger": "penstock.relay.relay", "event": "provider failed",
        "status": 502, "code": "provider_timeout",
    }  # fmt: skip


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ps-tENCe7zobDuK6mtbBumPPvquaSxmKngUkwffdza8umS3OIBxR",
        "sk-ant-api03-abcdefgh",
        "Authorization: Bearer abcdefgh.ijkl",
        "redis://:hunter22@localhost",
        "smtp://ann:hunter22@example.com",
    ],
)
def test_credentials_are_hidden(secret: str) -> None:
    made = record("cannot use %s here", secret, code=secret)
    for form in (logs.Lines(), logs.JsonLines()):
        line = form.format(made)
        assert "(hidden)" in line
        assert not any(part in line for part in ("tENCe7", "abcdefgh", "hunter22"))
        assert "here" in line


def test_a_traceback_stays_in_one_object() -> None:
    try:
        raise ValueError("sk-ant-api03-abcdefgh is bad")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    line = logs.JsonLines().format(made)
    assert "\n" not in line
    assert "abcdefgh" not in line
    assert "ValueError" in msgspec.json.decode(line)["traceback"]


def test_what_is_logged_reaches_stderr_before_the_end() -> None:
    program = "import logging; from penstock.operations.logs import configure; configure('info', 'json')\n"
    program += "log = logging.getLogger('penstock.x'); log.debug('no'); log.info('yes', extra={'rows': 3})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert (msgspec.json.decode(line)["event"], msgspec.json.decode(line)["rows"]) == ("yes", 3)
    assert done.stdout == ""


def test_libraries_write_warnings_alone_at_every_level() -> None:
    program = """
import logging, asyncio
from penstock.operations.logs import configure
configure("debug", "text")
for name in ("aiosqlite", "sqlalchemy.engine.Engine", "asyncio", "some.package", "penstocks"):
    logging.getLogger(name).debug("INSERT canary")
    logging.getLogger(name).info("canary")
    logging.getLogger(name).warning("worse")
logging.getLogger("penstock.x").debug("ours")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "canary" not in done.stderr
    assert (done.stderr.count("worse"), done.stderr.count("ours")) == (5, 1)


def test_a_row_that_postgresql_quotes_is_hidden() -> None:
    quoted = "duplicate key\nDETAIL:  Key (email)=(ann@example.com\nmore) already exists.\n[SQL: INSERT INTO users]"
    try:
        raise ValueError(quoted)
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    for form in (logs.Lines(), logs.JsonLines()):
        line = form.format(made)
        assert "ann@" not in line
        assert "more)" not in line
        assert "[SQL: INSERT INTO users]" in line


def test_every_field_that_the_code_logs_is_allowed() -> None:
    used: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
                used |= {
                    key.value
                    for key in node.value.keys
                    if isinstance(key, ast.Constant) and isinstance(key.value, str)
                }
    used -= {"expects", "default", "secret"}  # of msgspec.Meta, in settings/schema.py
    assert used
    assert used <= set(logs.LOG_FIELDS)
