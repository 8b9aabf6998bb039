"""The journal: what was appended is read again, what was torn or forgotten is not, and a living process keeps its own."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.store.journal import FIRST_SIZE, Journal, JournalFull, Segment, left_behind
from penstock.store.sql.backend import StoreError

MOST = 4 << 20


def reread(directory: Path, owner: str) -> list[bytes]:
    (found,) = [left for left in left_behind(directory) if left.owner == owner]
    records = found.records
    os.close(found.descriptor)
    return records


def test_records_are_read_in_their_order(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, "a", MOST)
    records = [b"%d" % number * (number + 1) for number in range(100)]
    for record in records:
        journal.current.append(record)
    assert left_behind(tmp_path) == [], "its process lives"
    journal.close(keep=True)
    assert reread(tmp_path, "a") == records


def test_turns_keep_the_order_and_forget_what_is_cleared(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, "a", MOST)
    for number in range(7):
        journal.current.append(b"old %d" % number)
        filled = journal.turn()
        assert journal.current.empty
        filled.clear()
    journal.current.append(b"first")
    journal.turn()
    journal.current.append(b"second")
    journal.close(keep=True)
    assert reread(tmp_path, "a") == [b"first", b"second"]


def test_what_an_earlier_cycle_left_is_no_record(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, "a", MOST)
    for _ in range(3):
        journal.current.append(b"same size")
    journal.current.clear()
    journal.current.append(b"9 letters")
    journal.close(keep=True)
    assert reread(tmp_path, "a") == [b"9 letters"]


@given(cut=st.integers(0, 400))
def test_a_torn_record_is_left_out(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("torn")
    journal = Journal.open(directory, "a", MOST)
    records = [b"x" * 30, b"y" * 40, b"z" * 200]
    for record in records:
        journal.current.append(record)
    journal.close(keep=True)
    file = directory / "a.0"
    data = file.read_bytes()
    file.write_bytes(data[:cut] + bytes(len(data) - cut))
    found = reread(directory, "a")
    assert found == records[: len(found)]
    ends = [16 + 8 + 30, 16 + 8 + 30 + 8 + 40, 16 + 8 + 30 + 8 + 40 + 8 + 200]
    assert len(found) == sum(end <= cut for end in ends)


def test_it_grows_up_to_its_most_and_then_refuses(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, "a", MOST)
    record = bytes(100_000)
    kept = MOST // 100_008
    for _ in range(kept):
        journal.current.append(record)
    with pytest.raises(JournalFull):
        journal.current.append(record)
    journal.current.append(b"small")
    journal.close(keep=True)
    assert reread(tmp_path, "a") == [record] * kept + [b"small"]


def test_a_full_disk_is_an_error_and_no_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(tmp_path, "a", MOST)
    journal.current.append(b"kept")

    def full(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(JournalFull, match="No space left"):
        journal.current.append(bytes(FIRST_SIZE))
    journal.current.append(b"also")
    journal.close(keep=True)
    assert reread(tmp_path, "a") == [b"kept", b"also"]
    with pytest.raises(StoreError, match="cannot reserve 2 MiB"):
        Journal.open(tmp_path, "b", MOST)


def test_forgetting_removes_the_files(tmp_path: Path) -> None:
    Journal.open(tmp_path, "a", MOST).close(keep=True)
    (found,) = left_behind(tmp_path)
    found.forget()
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_somebody_else_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "x.0").write_bytes(b"something else entirely")
    (found,) = left_behind(tmp_path)
    assert found.records == []


KILLED = """
import os, signal, sys
from pathlib import Path
from penstock.store.journal import Journal
journal = Journal.open(Path(sys.argv[1]), "a", 1 << 20)
for number in range(1000):
    journal.current.append(b"%d" % number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_all_it_appended(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert reread(tmp_path, "a") == [b"%d" % number for number in range(1000)]


def test_only_who_runs_the_service_can_read_it(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    before = os.umask(0)
    try:
        journal = Journal.open(directory, "a", MOST)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())] == [
        0o700,
        0o600,
        0o600,
    ]
    journal.close(keep=False)


def test_the_disk_has_both_files_after_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record may have been in the one that is being written to the database when its request waits for the disk."""
    synced: list[Path] = []
    sync = Segment.sync

    def noting(segment: Segment) -> None:
        sync(segment)
        synced.append(segment.path)

    monkeypatch.setattr(Segment, "sync", noting)
    journal = Journal.open(tmp_path, "a", MOST)
    journal.current.append(b"first")
    journal.turn()
    journal.sync()
    assert sorted(synced) == sorted(tmp_path.iterdir())
    journal.close(keep=False)
