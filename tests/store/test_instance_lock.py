"""One server per data directory, for as long as it lives and not longer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.store.instance_lock import LOCK_NAME, DataInUse, InstanceLock
from penstock.store.sql.backend import StoreError

HOLDER = """
import sys, time
from pathlib import Path
from penstock.store.instance_lock import InstanceLock
lock = InstanceLock.take(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_server_is_refused_and_told_which_process_has_it(tmp_path: Path) -> None:
    lock = InstanceLock.take(tmp_path / "data")
    with pytest.raises(DataInUse, match=f"process {os.getpid()};"):
        InstanceLock.take(tmp_path / "data")
    lock.release()
    lock.release()
    again = InstanceLock.take(tmp_path / "data")
    assert (tmp_path / "data" / LOCK_NAME).read_text() == f"{os.getpid()}\n"
    again.release()


def test_two_directories_are_two_servers(tmp_path: Path) -> None:
    first, second = InstanceLock.take(tmp_path / "a"), InstanceLock.take(tmp_path / "b")
    first.release()
    second.release()


def test_a_killed_server_lets_go(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(DataInUse, match=f"process {holder.pid};"):
        InstanceLock.take(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    InstanceLock.take(tmp_path).release()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="file"):
        InstanceLock.take(tmp_path / "file")
