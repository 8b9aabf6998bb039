"""The instance lock: one server per data directory; the kernel drops it with the process, however that ends."""

import fcntl
import os
from pathlib import Path

from penstock.store.sql.backend import StoreError

LOCK_NAME = "server.lock"


class DataInUse(StoreError):
    """Another server already serves this data directory."""


class InstanceLock:
    """Held by the server for its whole life; ``release`` may be left to the end of the process."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, data: Path) -> "InstanceLock":
        """Lock ``DATA/server.lock`` without waiting. Raises ``DataInUse``, or ``StoreError`` when it cannot be made.

        The file stays when the lock is released: removing it would let two servers lock two files of one name.
        """
        path = data / LOCK_NAME
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"cannot open {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            whose = f"process {holder}" if holder else "another process"
            raise DataInUse(
                f"{data} is already served by {whose}; stop it first, or give this server a data directory of its own"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StoreError(f"cannot lock {path}: {error.strerror}") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Give the directory free. Calling it again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
