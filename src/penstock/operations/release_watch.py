"""The newest version of the service, where the operator has named an address that knows it; without one nothing is asked."""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable
from typing import Final

import msgspec

from penstock.core.base_url import split_base_url
from penstock.domain.notifications.staff_events import Condition
from penstock.upstream import Deadlines, Origin, UpstreamClient, UpstreamFailure, default_tls

log = logging.getLogger("penstock.operations.release_watch")

ASKED_SECONDS: Final = 86_400.0
AGAIN_SECONDS: Final = 3_600.0
"""After a day, or after an hour where there was no answer, it is asked again."""
_WAIT: Final = 5.0
_MOST: Final = 4 << 20
"""PyPI's answer has each file of each version."""
_VERSION: Final = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,5})")


class _Info(msgspec.Struct, frozen=True):
    version: str = ""


class _Answer(msgspec.Struct, frozen=True):
    version: str = ""
    tag_name: str = ""
    info: _Info = _Info()


class ReleaseWatch:
    """What one process has been told. ``look`` is called by the server that looks at the books."""

    def __init__(self, url: str, ours: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``url`` was checked with the settings; ``clock`` gives seconds and never jumps."""
        self._url = url
        self._ours = ours
        self._clock = clock
        self._due = clock()
        self._newest = ""
        self._answered = False

    def suppose(self, told: str) -> None:
        """Staff were told of a version before: it is there until an answer says otherwise."""
        if not self._answered and is_newer(told, self._ours):
            self._newest = told

    @property
    def knows(self) -> bool:
        """Whether there was an answer yet."""
        return self._answered

    def conditions(self) -> list[Condition]:
        """That there is a newer one."""
        if not self._newest:
            return []
        text = f"Version {self._newest} of the service is there; this is {self._ours}"
        return [Condition("release.available", self._newest, text)]

    async def look(self) -> None:
        """Ask, where that is due."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + AGAIN_SECONDS
        try:
            async with asyncio.timeout(_WAIT):
                told = await _ask(self._url)
        except (TimeoutError, UpstreamFailure, ssl.SSLError, msgspec.DecodeError, ValueError) as error:
            log.warning("the newest version is not known", extra={"error": type(error).__name__})
            return
        if not is_release(told):
            log.warning("the newest version is not known", extra={"error": "no release in the answer"})
            return
        self._due, self._answered = self._clock() + ASKED_SECONDS, True
        self._newest = told if is_newer(told, self._ours) else ""


def is_release(told: str) -> bool:
    """Whether it is a version with nothing but numbers in it."""
    return _VERSION.fullmatch(told) is not None


def is_newer(told: str, ours: str) -> bool:
    """Whether a version is a release after ours. What has more than numbers in it is no release."""
    found, known = _VERSION.fullmatch(told), _VERSION.match(ours)
    if found is None or known is None:
        return False
    there, here = _numbers(found[1]), _numbers(known[1])
    return there > here or (there == here and _VERSION.fullmatch(ours) is None)


def _numbers(version: str) -> tuple[int, ...]:
    """Without zeroes at its end: 1.0 is 1."""
    numbers = [int(part) for part in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


async def _ask(url: str) -> str:
    place = split_base_url(url)
    client = UpstreamClient(ssl_context=default_tls(), max_idle=0)
    try:
        origin = Origin(place.scheme, place.host, place.port)
        headers = [(b"accept", b"application/json"), (b"user-agent", b"Penstock")]
        answer = await client.send(
            origin, b"GET", place.path or b"/", headers, b"", Deadlines(connect=_WAIT, total=_WAIT)
        )
        try:
            body = await answer.read(_MOST)
        finally:
            answer.close()
    finally:
        await client.close()
    if answer.status != 200:
        return ""
    said = msgspec.json.decode(body, type=_Answer)
    return (said.version or said.tag_name or said.info.version)[:40]
