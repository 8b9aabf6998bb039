"""A memory of what is worked out often: a dict that holds so many entries at most, and begins anew when it is full.

It is as quick to ask as a dict, which a request does several times. What makes an entry invalid is the owner's to know:
``docs/architecture.md`` lists every such memory on the path of a request.
"""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V]):
    """Entries are found with ``get`` and put with ``keep``."""

    __slots__ = ("_max",)

    def __init__(self, max_entries: int) -> None:
        super().__init__()
        self._max = max_entries

    def keep(self, key: K, value: V) -> V:
        """Remember ``value``; where the memory is full, everything else is forgotten first."""
        if len(self) >= self._max:
            self.clear()
        self[key] = value
        return value
