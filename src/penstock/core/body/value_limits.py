"""Limits of a JSON body: how many values it may hold, and how its numbers are read.

A million empty lists fit into three megabytes, and each costs what a long text does. How deep values may be nested is told by
``penstock.core.body.nesting``.
"""

from math import isinf

from penstock.errors import InvalidRequest


def real(text: str) -> float:
    """A number with a fraction or an exponent, as a decoder's ``float_hook`` where values of any kind are read.

    The decoder's own way takes 15 us for one such as ``1e300``, and 100 KB hold ten thousand of them.
    """
    value = float(text)
    if isinf(value):
        raise ValueError("number out of range")
    return value


_BYTES_A_VALUE = 2
"""The least that a value takes: a digit and a comma."""
_QUOTES_A_VALUE = 4
"""A key's two and a string's two."""


def is_dense(text: bytes) -> bool:
    """Whether JSON text has more values than a provider's own answer of that length: one in six bytes, beyond a few.

    For what callers send back inside of a string, where ``check_values`` of their body does not see it.
    """
    most = _FEW + len(text) // _BYTES_OF_ONE
    try:
        check_values(text, most)
    except InvalidRequest:
        return True
    return False


_FEW = 40
_BYTES_OF_ONE = 6


def check_values(body: bytes, most: int) -> None:
    """Raise ``InvalidRequest`` when a body of JSON holds more than ``most`` values: objects, lists and their members."""
    if len(body) <= _BYTES_A_VALUE * most or sum(map(body.count, (b"{", b"[", b","))) <= most:
        return
    # not so many that it is plain, for texts hold commas too: look again without the strings
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') <= _QUOTES_A_VALUE * most:
        outside = b"".join(bare.split(b'"')[::2])
        if sum(map(outside.count, (b"{", b"[", b","))) <= most:
            return
    raise InvalidRequest(
        f"The body holds more than {most} values (objects, lists and their members), "
        "which is more than a request has messages, parts and tools for."
    )
