"""Drills: a failure of one provider, played for the requests of one key alone, until it ends by itself.

``penstock drill`` writes what is to be played into a file of the data directory. Each serving process looks for it with its
other rounds, and for the end of its time. A drill that begins or ends advances the revision, so what is decided once for many
requests is decided anew; while none runs, nothing is asked. In the place of the provider the built-in simulator gets the
request, without the provider's credentials, and nothing that comes of it is held against the provider.
"""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from penstock.core.revision import Revision

log = logging.getLogger("penstock.operations.drill")

FAULTS: Mapping[str, str] = {
    "hang": "hang",
    "cut": "cut=0",
    "cut-mid": "cut=5",
    "hang-mid": "hang-mid=5",
    "error-in-stream": "error-in-stream=0",
    "unfinished": "unfinished",
    "garbage": "garbage",
    "html": "html",
    "empty": "empty",
    "error-200": "error-200",
    "400": "error-400",
    "401": "error-401",
    "404": "error-404",
    "429": "error-429",
    "500": "error-500",
    "503": "error-503",
    "529": "error-529",
}
"""What can be played, and the simulator's scenario for it."""
LONGEST_DRILL = 3600
"""Seconds for which a drill may run."""
_FILE = "drill.json"
_MOST = 4096


class Drill(msgspec.Struct, frozen=True):
    """What is played: ``fault`` of ``provider``, for requests with the key ``key_id``, until an epoch second."""

    key_id: str
    provider: str
    fault: str
    until: float


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Drill).decode


def read_drill(data: Path, now: float) -> Drill | None:
    """The drill that runs on the installation in this data directory; None where there is none, or its time is over."""
    try:
        with (data / _FILE).open("rb") as file:
            found = _decode(file.read(_MOST))
    except (OSError, msgspec.DecodeError):
        return None
    return found if now < found.until <= now + LONGEST_DRILL and found.fault in FAULTS else None


def begin_drill(data: Path, drill: Drill) -> None:
    """Have it played. Raises ``OSError``."""
    written = data / f"{_FILE}.{os.getpid()}"
    written.write_bytes(_encode(drill))
    written.replace(data / _FILE)


def end_drill(data: Path) -> None:
    """Have nothing played any more. Raises ``OSError``."""
    (data / _FILE).unlink(missing_ok=True)


class Drills:
    """What is played in this process."""

    __slots__ = ("_data", "_now", "_revision", "current", "simulator")

    def __init__(self, data: Path, revision: Revision, simulator: str, *, now: Callable[[], float]) -> None:
        """``simulator`` is the base URL of the built-in one."""
        self._data = data
        self._revision = revision
        self._now = now
        self.simulator = simulator
        self.current: Drill | None = None

    def follow(self) -> None:
        """See whether one begins or is over."""
        found = read_drill(self._data, self._now())
        if found == self.current:
            return
        self.current = found
        self._revision.advance()
        if found is None:
            log.warning("a drill is over")
        else:
            told = {"provider": found.provider, "fault": found.fault, "until": int(found.until)}
            log.warning("a drill begins", extra=told)

    def scenario(self, key_id: str, provider: str) -> bytes | None:
        """What the simulator plays in the place of a provider for the requests of a key; None: it is asked itself."""
        drill = self.current
        if (
            drill is None
            or drill.key_id != key_id
            or drill.provider != provider
            or self._now() >= drill.until
        ):
            return None
        return FAULTS[drill.fault].encode()
