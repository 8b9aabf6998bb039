"""The sides of a dialect as tests ask for them: there, or the test has asked for the wrong dialect."""

from penstock.core.dialects.interface import MakePassthrough
from penstock.core.dialects.registry import passing_of


def stream_of(dialect: str) -> MakePassthrough:
    """What passes a stream of this dialect through."""
    stream = passing_of(dialect).Stream
    assert stream is not None
    return stream
