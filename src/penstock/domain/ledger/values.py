"""Values that every database stores, made of what callers and upstreams say: they name and count what they like."""

MAX_COUNT = 2**63 - 1


def fit(text: str, most: int) -> str:
    """Text that every database stores: no lone surrogates, no NUL, no more than the column's length."""
    if len(text) <= most and text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "?")[:most]


def fit_or_none(text: str | None, most: int) -> str | None:
    """The same, where there may be none."""
    return None if text is None else fit(text, most)


def whole_count(count: int | None) -> int | None:
    """A count as a 64-bit integer that is not negative: an upstream can answer with any number."""
    if count is None or 0 <= count <= MAX_COUNT:
        return count
    return 0 if count < 0 else MAX_COUNT
