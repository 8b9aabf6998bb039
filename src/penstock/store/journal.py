"""A journal on this machine's disk: records that outlive the process, until the database has them.

A journal is two memory-mapped files, its segments, used in turns. A record is appended to the current one by copying it
into the mapping, without a system call: what is in the mapping belongs to the kernel's page cache, and stays when the
process is killed. ``turn`` makes the other segment the current one, so that what is in the first can be written to the
database as a batch and then be forgotten in one step, ``clear``.

A segment is a header (magic, cycle) and records: a length and a CRC-32, both 32 bits and little-endian, before the bytes.
The CRC begins with the segment's cycle, which ``clear`` raises: whatever an earlier cycle left behind is no record any
more. Space is reserved before it is written to, so that a full disk is an error here and no signal.

A journal belongs to the process that holds the lock of its first segment. Those whose process has died are found, and
read, by the next one that opens the directory. Whoever replays must be idempotent: the database may have it all already.
"""

import fcntl
import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec

from penstock.store.sql.backend import StoreError

FIRST_SIZE: Final = 1 << 20
"""Bytes a segment begins with."""
SUFFIXES: Final = (".0", ".1")

_HEADER = struct.Struct("<8sQ")
_RECORD = struct.Struct("<II")
_MAGIC = b"penstock"


class JournalFull(Exception):
    """A record has no room: the segment has its largest size, or the disk is full."""


class Segment:
    """One file of a journal, mapped into memory. Used by one thread at a time."""

    __slots__ = ("_cycle", "_descriptor", "_end", "_map", "_most", "_seed", "_size", "path")

    def __init__(self, path: Path, descriptor: int, most: int) -> None:
        """Reserves the first bytes. Raises ``OSError``."""
        self.path = path
        self._descriptor = descriptor
        self._most = max(most, FIRST_SIZE)
        os.posix_fallocate(descriptor, 0, FIRST_SIZE)
        self._map = mmap.mmap(descriptor, 0)
        self._size = len(self._map)
        self._cycle = 0
        self.clear()

    @property
    def empty(self) -> bool:
        """Whether nothing was appended since it was last cleared."""
        return self._end == _HEADER.size

    @property
    def used(self) -> int:
        """Bytes that were appended since it was last cleared."""
        return self._end - _HEADER.size

    def append(self, record: bytes) -> None:
        """Keep a record of at least one byte. Raises ``JournalFull``; nothing is kept then."""
        at = self._end
        end = at + _RECORD.size + len(record)
        if end > self._size:
            self._grow(end)
        # The whole of it in one copy: what a kill tears apart fails its checksum.
        self._map[at:end] = _RECORD.pack(len(record), zlib.crc32(record, self._seed)) + record
        self._end = end

    def clear(self) -> None:
        """Forget all records."""
        self._cycle += 1
        self._map[: _HEADER.size] = _HEADER.pack(_MAGIC, self._cycle)
        self._seed = zlib.crc32(self._cycle.to_bytes(8, "little"))
        self._end = _HEADER.size

    def sync(self) -> None:
        """Have the disk hold what was appended."""
        self._map.flush()

    def close(self) -> None:
        """Give the mapping and the lock up; the file stays."""
        self._map.close()
        os.close(self._descriptor)

    def _grow(self, needed: int) -> None:
        size = self._size
        while size < needed:
            size *= 2
        size = min(size, self._most)
        if size < needed:
            raise JournalFull(f"{self.path} has its largest size, {self._most} bytes")
        try:
            os.posix_fallocate(self._descriptor, 0, size)
            self._map.resize(size)
        except OSError as error:
            raise JournalFull(f"{self.path} cannot grow: {error.strerror}") from error
        self._size = size


class Left(msgspec.Struct, frozen=True):
    """The journal of a process that has died. ``records`` are in the order in which they were appended."""

    owner: str
    records: list[bytes]
    files: tuple[Path, ...]
    descriptor: int
    """Holds the lock."""

    def forget(self) -> None:
        """Remove the files, now that the database has what was in them."""
        for file in self.files:
            file.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Leave the files to whoever opens the directory next."""
        os.close(self.descriptor)


class Journal:
    """The journal of this process. Used by one thread; ``sync`` alone is for others."""

    __slots__ = ("_other", "current")

    def __init__(self, current: Segment, other: Segment) -> None:
        self.current = current
        self._other = other

    @classmethod
    def open(cls, directory: Path, owner: str, most: int) -> "Journal":
        """Make the journal of ``owner``, a new random id, whose segments may grow to ``most`` bytes each.

        Raises ``StoreError`` when it cannot be made, or its space cannot be had.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            first, second = (_segment(directory / (owner + suffix), most) for suffix in SUFFIXES)
        except OSError as error:
            raise StoreError(
                f"cannot reserve {FIRST_SIZE >> 19} MiB for the journal in {directory}: {error.strerror}"
            ) from error
        return cls(first, second)

    def turn(self) -> Segment:
        """Go on in the other segment, which must be empty; gives the one that was filled."""
        filled = self.current
        self.current, self._other = self._other, filled
        return filled

    def sync(self) -> None:
        """Have the disk hold what was appended. Blocks; from any thread."""
        self.current.sync()
        self._other.sync()

    def close(self, *, keep: bool) -> None:
        """Close both files, and remove them unless they are to be kept for the next start."""
        for segment in (self.current, self._other):
            if not keep:
                segment.path.unlink(missing_ok=True)
            segment.close()


def left_behind(directory: Path) -> list[Left]:
    """The journals in ``directory`` whose processes have died, locked for us. Raises ``StoreError``."""
    found: list[Left] = []
    try:
        for first in sorted(directory.glob(f"*{SUFFIXES[0]}")):
            descriptor = os.open(first, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            second = first.with_suffix(SUFFIXES[1])
            # The one that was filled first holds what the other one's records may need: rows before their ends.
            halves = sorted((_read(file) for file in (first, second)), key=lambda half: half[0])
            records = [record for _, half in halves for record in half]
            found.append(Left(first.stem, records, (first, second), descriptor))
    except OSError as error:
        raise StoreError(f"cannot read the journals in {directory}: {error.strerror}") from error
    return found


def _segment(path: Path, most: int) -> Segment:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return Segment(path, descriptor, most)


def _read(path: Path) -> tuple[int, list[bytes]]:
    """A segment's cycle and its records; a torn last one is left out."""
    data = path.read_bytes() if path.exists() else b""
    if len(data) < _HEADER.size:
        return 0, []
    magic, cycle = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        return 0, []
    seed = zlib.crc32(cycle.to_bytes(8, "little"))
    records: list[bytes] = []
    at = _HEADER.size
    while at + _RECORD.size <= len(data):
        length, checksum = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        record = data[at : at + length]
        if not length or len(record) < length or zlib.crc32(record, seed) != checksum:
            break
        records.append(record)
        at += length
    return cycle, records
