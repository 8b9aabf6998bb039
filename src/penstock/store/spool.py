"""A small file that takes what the database cannot take now, and gives it back at the next start.

The space is reserved when the file is made, so that it can be written when the disk is full. Records are a length and a
CRC-32 (both 32 bits, little-endian) before the bytes; a length of 0 is the end. What was written twice, or is read back
although the database has it, does no harm: whoever replays must be idempotent.
"""

import os
import struct
import zlib
from pathlib import Path

from penstock.store.backend import StoreError

RESERVED = 1 << 20
_HEADER = struct.Struct("<II")
_END = bytes(_HEADER.size)


class Spool:
    """An append-only file, emptied as a whole. Used by one thread at a time."""

    __slots__ = ("_descriptor", "_size", "path")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = 0

    @classmethod
    def open(cls, path: Path) -> tuple["Spool", list[bytes]]:
        """Open or make the file, and read the records in it. A torn last record is left out.

        Raises ``StoreError`` when it cannot be made, or its space cannot be had.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(descriptor, 0, RESERVED)
        except OSError as error:
            raise StoreError(f"cannot reserve {RESERVED >> 20} MiB for {path}: {error.strerror}") from error
        spool = cls(path, descriptor)
        return spool, spool._read()

    @property
    def empty(self) -> bool:
        """Whether nothing was appended since it was last cleared."""
        return self._size == 0

    def append(self, records: list[bytes]) -> None:
        """Write the records durably. Raises ``OSError`` when the file is past its reserve and the disk is full."""
        data = b"".join(_HEADER.pack(len(record), zlib.crc32(record)) + record for record in records)
        os.pwrite(self._descriptor, data + _END, self._size)
        os.fdatasync(self._descriptor)
        self._size += len(data)

    def clear(self) -> None:
        """Forget all records, now that the database has them."""
        os.pwrite(self._descriptor, _END, 0)
        os.fdatasync(self._descriptor)
        self._size = 0

    def close(self) -> None:
        """Close the file; it stays."""
        os.close(self._descriptor)

    def _read(self) -> list[bytes]:
        data = self.path.read_bytes()
        records: list[bytes] = []
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, checksum = _HEADER.unpack_from(data, offset)
            record = data[offset + _HEADER.size : offset + _HEADER.size + length]
            if length == 0 or len(record) < length or zlib.crc32(record) != checksum:
                break
            records.append(record)
            offset += _HEADER.size + length
        self._size = offset
        return records
