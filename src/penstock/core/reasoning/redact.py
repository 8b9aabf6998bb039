"""Redaction of reasoning, for callers that ask for none of its text (``thinking.display`` is ``omitted``).

The text goes into the signature, which such a caller sends back: a model that wants its reasoning again still gets it.
"""

from penstock.core.neutral.events import AnyEvent, CallOpened, Stopped, TextDelta, ThoughtDelta, ThoughtSigned
from penstock.core.neutral.request import Thought
from penstock.core.neutral.text_pieces import TextPieces
from penstock.core.reasoning import signature

_KEEPS = 64 * 1024 * 1024


class Redaction:
    """Takes the text of reasoning out of one reply's events."""

    __slots__ = ("_keeps", "_pieces", "_size")

    def __init__(self, keeps: int = _KEEPS) -> None:
        """``keeps``: the text of a longer thought, in characters, is given up: its signature goes without."""
        self._keeps = keeps
        self._pieces = TextPieces()
        self._size = 0

    def without_text(self, events: list[AnyEvent]) -> list[AnyEvent]:
        """The next events as the caller gets them."""
        left: list[AnyEvent] = []
        for event in events:
            if isinstance(event, ThoughtDelta):
                self._take(event.text)
            elif isinstance(event, ThoughtSigned):
                left.append(self._signed(event))
            else:
                if self._pieces and isinstance(event, TextDelta | CallOpened | Stopped):
                    left.append(
                        self._signed(ThoughtSigned(signature.sign_reasoning(signature.ReasoningOrigin(""))))
                    )
                left.append(event)
        return left

    def _take(self, text: str) -> None:
        self._size += len(text)
        if self._size > self._keeps:
            self._pieces, text = TextPieces(), ""  # a thought there is, but no text of it
        self._pieces.add(text)

    def _signed(self, event: ThoughtSigned) -> ThoughtSigned:
        text, self._pieces, self._size = self._pieces.text(), TextPieces(), 0
        origin = signature.read_signature(event.signature)
        if origin is None or not text:
            return event
        return ThoughtSigned(
            signature.sign_reasoning(signature.ReasoningOrigin(origin.model, origin.carrier, text))
        )


def unhidden(thought: Thought) -> Thought:
    """A thought that came back, with the text that its signature holds."""
    if thought.text or thought.signature is None:
        return thought
    origin = signature.read_signature(thought.signature)
    return thought if origin is None or not origin.text else Thought(origin.text, thought.signature)
