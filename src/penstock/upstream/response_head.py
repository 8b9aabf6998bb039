"""Heads of upstreams' answers, kept as bytes: a header is looked for when somebody asks for it.

The parser has accepted these bytes in its strict mode before they come here, so each line ends with CR LF and begins with
a name and a colon. Most answers have a dozen headers or more, of which one or two matter to us.
"""

Header = tuple[bytes, bytes]

_H = ord("H")
_LINE_ENDS = frozenset(b"\r\n")


def last_head(received: bytes, interims: int) -> bytes:
    """The head after ``interims`` interim (1xx) ones, from its status line on and without the line ends that close it.

    ``b""`` where there is none.
    """
    end = received.find(b"\r\n\r\n")
    if not interims and end > 0 and received[0] == _H:
        return received[:end]
    start, end = 0, -4
    for _ in range(interims + 1):
        start = end + 4
        # the parser lets line ends pass before a status line
        while start < len(received) and received[start] in _LINE_ENDS:
            start += 1
        end = received.find(b"\r\n\r\n", start)
        if end < 0:
            return b""
    return received[start:end]


def all_headers(head: bytes) -> list[Header]:
    """Names in lower case, in the order received; blanks after a value are kept."""
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [(name.lower(), value.lstrip(b" \t")) for name, _, value in lines]


def values_of(name: bytes, head: bytes, lower: bytes) -> list[bytes]:
    """The values of all headers of a name without the blanks around them; ``lower`` is the head in lower case."""
    needle = b"\r\n%b:" % name
    values: list[bytes] = []
    at = lower.find(needle)
    while at >= 0:
        start = at + len(needle)
        end = lower.find(b"\r\n", start)
        values.append(head[start : end if end >= 0 else None].strip(b" \t"))
        at = lower.find(needle, start)
    return values
