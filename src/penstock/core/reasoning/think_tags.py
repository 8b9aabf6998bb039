"""Reasoning that a Chat upstream puts into its text, between ``<think>`` and ``</think>`` at the very beginning."""

from typing import Literal

_BEGIN = "<think>"
_END = "</think>"

Piece = tuple[Literal["text", "thought"], str]


class ThinkTags:
    """Parts reasoning from text, in pieces cut anywhere. What may still be either waits."""

    __slots__ = ("_waiting", "_where")

    def __init__(self) -> None:
        self._where: Literal["start", "opened", "inside", "after", "text"] = "start"
        self._waiting: str = ""

    def feed(self, text: str) -> list[Piece]:
        """The pieces of the next text that are sure."""
        text, self._waiting = self._waiting + text, ""
        pieces: list[Piece] = []
        if self._where == "start":
            begun = text.lstrip()
            if begun.startswith(_BEGIN):
                self._where, text = "opened", begun.removeprefix(_BEGIN)
            elif _BEGIN.startswith(begun):
                self._waiting = text
                return []
            else:
                self._where = "text"
        if self._where == "opened":
            text = text.lstrip("\n")
            if text:
                self._where = "inside"
        if self._where == "inside":
            thought, end, rest = text.partition(_END)
            if end:
                self._where, thought, text = "after", thought.rstrip("\n"), rest
            else:
                held = _beginning_of(_END, thought)
                sure = thought[: len(thought) - held].rstrip("\n")
                self._waiting, thought, text = thought[len(sure) :], sure, ""
            if thought:
                pieces.append(("thought", thought))
        if self._where == "after":
            text = text.lstrip("\n")
            if text:
                self._where = "text"
        if self._where == "text" and text:
            pieces.append(("text", text))
        return pieces

    def finish(self) -> list[Piece]:
        """What still waits, at the end of the answer."""
        text, self._waiting = self._waiting, ""
        if not text:
            return []
        return [("thought" if self._where == "inside" else "text", text)]


def _beginning_of(tag: str, text: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``tag``."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)


def tagged(thought: str, text: str) -> str:
    """A text with its reasoning in front, as such an upstream wants it back."""
    return f"{_BEGIN}\n{thought}\n{_END}\n\n{text}"
