"""The trail as a file: JSON Lines, an entry a line, with all that its hash is made of. A small program verifies it alone."""

from typing import Any

import msgspec

from penstock.domain.trail.entries import Entry


def line_of(entry: Entry) -> str:
    """An entry as one line; bytes are in hexadecimal."""
    told: dict[str, Any] = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in msgspec.structs.asdict(entry).items()
    }
    return msgspec.json.encode(told).decode()
