"""A text that comes in pieces, kept in little room until it is asked for."""

_AT_A_TIME = 256
"""So many pieces are put together at a time: apart they take ten times the room."""


class TextPieces:
    """Pieces of one text in their order; true once there is one, be it empty."""

    __slots__ = ("_joined", "_pieces", "size")

    def __init__(self) -> None:
        self._joined: list[str] = []
        self._pieces: list[str] = []
        self.size = 0
        """Characters so far."""

    def __bool__(self) -> bool:
        return bool(self._pieces or self._joined)

    def add(self, piece: str) -> None:
        """Add the next piece."""
        self._pieces.append(piece)
        self.size += len(piece)
        if len(self._pieces) >= _AT_A_TIME:
            self._joined.append("".join(self._pieces))
            self._pieces.clear()

    def text(self) -> str:
        """All of it."""
        return "".join((*self._joined, *self._pieces))
