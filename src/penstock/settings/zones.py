"""Time zones by their names. UTC needs no table of the machine's."""

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def zone_of(name: str) -> tzinfo:
    """The zone. Raises ``ValueError`` or ``OSError`` where the machine has none of this name."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError as error:
        raise ValueError(f"no zone {name}") from error
