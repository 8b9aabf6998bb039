"""Letters: what is said of events, and how each kind of receiver wants it said: ids, numbers and our own words."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from penstock.domain.notifications.event_kinds import EventState, Severity

SHAPES: Final = ("plain", "slack", "discord", "teams")
MOST_IN_LETTER: Final = 100
"""Events that a summary names; of more it says how many."""
_WORDS: Final = {"opened": "", "still_open": "still: ", "recovered": "over: ", "happened": ""}
_LONGEST_CHAT: Final = 1900
"""Discord takes 2,000 characters."""
_encode = msgspec.json.Encoder().encode


class Told(msgspec.Struct, frozen=True):
    """One event as it is told. Times are epoch milliseconds."""

    event: str
    state: EventState
    severity: Severity
    object: str
    text: str
    at: int
    since: int

    @property
    def line(self) -> str:
        """In one line."""
        return f"[{self.severity}] {_WORDS[self.state]}{self.text}"


class Letter(msgspec.Struct, frozen=True):
    """What one message says. ``event`` is that of the one event, or ``summary``, ``digest.daily`` or ``webhook.test``.

    ``more`` is how many events it does not name.
    """

    event: str
    at: int
    told: tuple[Told, ...] = ()
    more: int = 0

    def lines(self, most: int = MOST_IN_LETTER) -> list[str]:
        """As text, with so many events by name, and how many it does not name."""
        if self.event == "webhook.test":
            return ["This is a test. Nothing has happened."]
        found = [each.line for each in self.told[:most]]
        left = self.more + len(self.told) - len(found)
        return [*found, f"and {left} more"] if left else found


class _Event(msgspec.Struct, frozen=True):
    event: str
    state: str
    severity: str
    object: str
    text: str
    at: str
    since: str


class _Plain(msgspec.Struct, frozen=True):
    """The body of a plain webhook."""

    type: str
    timestamp: str
    service: str
    data: dict[str, str] | _Event | dict[str, list[_Event] | int]


class _Text(msgspec.Struct, frozen=True):
    text: str


class _Discord(msgspec.Struct, frozen=True):
    content: str
    allowed_mentions: dict[str, list[str]]


class _Block(msgspec.Struct, frozen=True):
    type: str
    text: str
    wrap: bool


class _Card(msgspec.Struct, frozen=True):
    type: str
    version: str
    body: list[_Block]


class _Attached(msgspec.Struct, frozen=True, rename={"kind": "contentType"}):
    kind: str
    content: _Card


class _Teams(msgspec.Struct, frozen=True):
    type: str
    attachments: list[_Attached]


def body_of_letter(letter: Letter, shape: str, service: str) -> bytes:
    """The JSON that a receiver of this shape takes. ``service`` is what this service calls itself."""
    if shape == "plain":
        return _encode(_plain(letter, service))
    text = _chat(letter, service)
    if shape == "slack":
        # what Slack would read as a link or a mention
        return _encode(_Text(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")))
    if shape == "discord":
        return _encode(_Discord(text, {"parse": []}))
    block = _Block("TextBlock", text, wrap=True)
    card = _Card("AdaptiveCard", "1.4", [block])
    return _encode(_Teams("message", [_Attached("application/vnd.microsoft.card.adaptive", card)]))


def _chat(letter: Letter, service: str) -> str:
    """As many events as fit, and how many others there are."""
    most = len(letter.told)
    while True:
        lines = [f"{service}: {line}" for line in letter.lines(most)]
        text = "\n".join(lines)
        if len(text) <= _LONGEST_CHAT or most <= 1:
            return text[:_LONGEST_CHAT]
        most -= 1


def _plain(letter: Letter, service: str) -> _Plain:
    at = _moment(letter.at)
    if letter.event == "webhook.test":
        return _Plain(letter.event, at, service, {"text": letter.lines()[0]})
    events = [_event(each) for each in letter.told]
    if letter.event in ("summary", "digest.daily"):
        return _Plain(letter.event, at, service, {"events": events, "more": letter.more})
    return _Plain(letter.event, at, service, events[0])


def _event(told: Told) -> _Event:
    return _Event(
        told.event, told.state, told.severity, told.object, told.text, _moment(told.at), _moment(told.since)
    )


def letter_of(event: str, told: Sequence[Told], *, at: int) -> Letter:
    """Several events in one."""
    return Letter(event, at, tuple(told[:MOST_IN_LETTER]), max(0, len(told) - MOST_IN_LETTER))


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
