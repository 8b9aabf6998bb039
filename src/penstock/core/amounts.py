"""A number with the noun that it counts."""


def amount(number: int, one: str, many: str = "") -> str:
    """``1 account``, ``2,000 accounts``; ``many`` where that is not ``one`` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
