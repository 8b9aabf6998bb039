"""The revision of what decisions rest on: one number, which goes up whenever something of it has changed."""


class Revision:
    """Shared by those who know of a change and those who keep a decision; not thread-safe."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def advance(self) -> None:
        """Something has changed: what was decided before this call must be decided again."""
        self.number += 1
