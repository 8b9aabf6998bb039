"""A part of many like cases, for ``make test``; ``make chaos`` takes them all."""

import os
from collections.abc import Mapping, Sequence
from typing import TypeVar

ALL = "PENSTOCK_TEST_ALL" in os.environ
"""Whether nothing is left out."""

K = TypeVar("K")
V = TypeVar("V")


def sample(cases: Sequence[V], number: int, turn: int = 0) -> list[V]:
    """So many of the cases, spread evenly; another ``turn`` takes others."""
    if ALL or number >= len(cases):
        return list(cases)
    return [cases[(at * len(cases) // number + turn) % len(cases)] for at in range(number)]


def sample_of(cases: Mapping[K, V], number: int, turn: int = 0) -> dict[K, V]:
    """The same of cases with names."""
    return {name: cases[name] for name in sample(list(cases), number, turn)}
