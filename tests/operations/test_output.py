"""Whoever reads standard output and error may stop to, and nothing waits for them: not the loop, not the end."""

import asyncio
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

from penstock.domain.mail.outbox import Mail
from penstock.operations.mail_sender import Console, NotSent, compose_message
from penstock.operations.output import NobodyReads, Printer, write_whole
from tests.service.processes import serving

F_SETPIPE_SZ = 1031
PAGE = 4096


class Pipe:
    """A pipe that holds a page, full but for nothing."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, F_SETPIPE_SZ, PAGE)
        os.write(self.writer, b"." * PAGE)

    def read(self) -> bytes:
        return os.read(self.reader, PAGE)

    def close(self) -> None:
        for end in (self.reader, self.writer):
            with suppress(OSError):  # closed by the test
                os.close(end)


@pytest.fixture
def full() -> Generator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


async def test_the_loop_turns_while_nobody_reads_and_what_was_printed_comes_later(full: Pipe) -> None:
    printer = Printer(full.writer, 0.05)
    with pytest.raises(NobodyReads):
        await printer.send("first")
    with pytest.raises(NobodyReads):
        await printer.send("second, while the first still waits")
    assert full.read() == b"." * PAGE
    read = await asyncio.to_thread(full.read)
    assert read == b"first"
    await until_taken(printer, "third")
    assert full.read() == b"third"


async def until_taken(printer: Printer, text: str) -> None:
    """The thread before may end a moment after its text was read."""
    async with asyncio.timeout(60):
        while True:
            try:
                await printer.send(text)
            except NobodyReads:
                await asyncio.sleep(0.01)
            else:
                return


async def test_a_reader_that_is_gone_is_told_of(full: Pipe) -> None:
    os.close(full.reader)
    with pytest.raises(BrokenPipeError):
        await Printer(full.writer, 60).send("text")


def test_a_descriptor_that_does_not_block_is_waited_for(full: Pipe) -> None:
    os.set_blocking(full.writer, False)
    text = "é" * PAGE
    reading = subprocess.Popen(["cat"], stdin=full.reader, stdout=subprocess.PIPE)
    write_whole(full.writer, text)
    os.close(full.writer)
    os.close(full.reader)
    out, _ = reading.communicate()
    assert out.decode() == "." * PAGE + text


async def test_a_mail_that_nobody_reads_is_tried_again(full: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.operations.mail_sender.STDOUT", full.writer)
    message = compose_message(
        Mail("test", "ann@example.com", "A subject", ("First.",)), "Acme <a@b.example>", "eml_1", 0.0
    )
    console = Console(0.05)
    with pytest.raises(NotSent, match="nobody reads") as told:
        await console.send(message)
    assert not told.value.lasting


CHATTY = """
import logging, sys
from penstock.operations.logs import configure
configure("info", "text", backlog=100)
log = logging.getLogger("penstock.x")
for number in range(20_000):
    log.info("line")
print("written", flush=True)
if sys.argv[1] == "read":
    sys.stdin.read()
    log.info("the last one")
"""


def test_lines_that_nobody_reads_are_left_out_and_counted() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CHATTY, "read"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    _, logged = process.communicate()
    assert process.returncode == 0
    left_out = sum(map(int, re.findall(r"lines were left out rows=(\d+)", logged)))
    assert left_out > 0
    assert logged.count(" penstock.x: ") + left_out == 20_001


def test_a_process_ends_though_nobody_reads_its_log(full: Pipe) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CHATTY, "leave"], stdout=subprocess.PIPE, stderr=full.writer
    )
    with process:
        try:
            assert process.communicate(timeout=50) == (b"written\n", None)
        finally:
            process.kill()
    assert process.returncode == 0
    assert full.read() == b"." * PAGE


async def test_a_server_serves_and_ends_though_nobody_reads_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.mkfifo(log)
    ours = os.open(log, os.O_RDWR)
    fcntl.fcntl(ours, F_SETPIPE_SZ, PAGE)
    os.write(ours, b"." * PAGE)
    try:
        redirected = ("sh", "-c", 'exec "$@" 2>"$0"', str(log))
        async with serving(tmp_path / "data", by=redirected) as server:
            for _ in range(3):
                assert (await server.http("GET", "/healthz", "")).status == 200
            await server.stop()
        assert os.read(ours, PAGE) == b"." * PAGE, "and not a line was read meanwhile"
    finally:
        os.close(ours)
