"""The sides of a dialect as tests ask for them: there, or the test has asked for the wrong dialect."""

from penstock.core.dialects.interface import MakePassthrough
from penstock.core.dialects.registry import DIALECTS, passing_of

PASSED_THROUGH = tuple(
    name
    for name, dialect in DIALECTS.items()
    if dialect.upstream is not None and dialect.upstream.passing is not None
)
"""The dialects whose streams can be passed through."""


def stream_of(dialect: str) -> MakePassthrough:
    """What passes a stream of this dialect through."""
    stream = passing_of(dialect).Stream
    assert stream is not None
    return stream
