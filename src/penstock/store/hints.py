"""Hints between processes about upstreams: what one has met, kept outside of all of them until it is over.

They are never waited for by a request, and nothing depends on them: without a place to keep them each process learns by itself.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from penstock.core.failure_classes.classes import FailureClass


class StoredHint(msgspec.Struct, frozen=True):
    """A hint as it is kept. ``by`` is the process that has told it, ``until`` is in epoch milliseconds."""

    by: str
    opened: bool
    until: int
    cause: FailureClass


class HintStore(Protocol):
    """Where the hints of all processes are."""

    @property
    def node(self) -> str:
        """The name of this process."""
        ...

    async def read_hints(self, names: Sequence[tuple[str, ...]]) -> list[StoredHint | None] | None:
        """What is told of each of these; None where it cannot be known at the moment."""
        ...

    def write_hint(self, name: tuple[str, ...], hint: StoredHint, milliseconds: int) -> None:
        """Tell this, for so long. Nobody waits for it, and it may be lost."""
        ...

    def withdraw_hint(self, name: tuple[str, ...]) -> None:
        """Tell nothing of it any more. The same."""
        ...
