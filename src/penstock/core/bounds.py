"""How many values a body may hold, found out before any of them is made.

A million empty lists fit into three megabytes, and each costs what a long text does. Nesting needs no bound of its own: the
decoder's (about a thousand levels) was measured to be reached within 0.1 ms.
"""

from penstock.errors import InvalidRequest

_BYTES_A_VALUE = 2
"""The least that a value takes: a digit and a comma."""
_QUOTES_A_VALUE = 4
"""A key's two and a string's two."""


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
