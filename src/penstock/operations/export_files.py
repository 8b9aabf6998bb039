"""Files of exported receipts: lines, one folder a destination, a new file each day and where one has become too large.

What is written is on the disk when it is reported as written. A line that a killed server left unfinished is cut off before the
next one: its batch had not been reported, and comes again.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

FOLDER: Final = "exports"
"""Of the data directory."""
_TAIL: Final = 1 << 20


def append_lines(
    folder: Path, lines: bytes, *, now: float, most: int, ending: str = "jsonl", head: bytes = b""
) -> None:
    """Append whole lines, after ``head`` where the file is new. Raises ``OSError``.

    ``now`` is epoch seconds; from ``most`` bytes on a new file is begun.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
    numbers = [
        int(path.stem.rpartition(".")[2]) for path in folder.glob(f"{day}.*.{ending}") if _counted(path)
    ]
    number = max(numbers, default=1)
    path = folder / f"{day}.{number:04d}.{ending}"
    if path.exists() and path.stat().st_size >= most:
        path = folder / f"{day}.{number + 1:04d}.{ending}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        end = file.seek(_whole_lines(file.fileno()))
        file.truncate()
        file.write(lines if end else head + lines)
        file.flush()
        os.fsync(file.fileno())


def _counted(path: Path) -> bool:
    return path.stem.rpartition(".")[2].isdecimal()


def _whole_lines(descriptor: int) -> int:
    """Where the last whole line ends."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _TAIL)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
