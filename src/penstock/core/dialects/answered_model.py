"""Whether the model that an answer names is the one that was asked for, or another.

An upstream may answer with a longer or shorter name of the same model: dated, with a version, without the vendor before it.
Of two names that differ in more than that nobody can tell, so the answer counts as another model's: a needless note costs
less than a missing one.
"""

import re
from functools import lru_cache

MAX_NAME = 128
"""Characters of a name that are kept."""

_ODD = re.compile(r"[^A-Za-z0-9 ._:/@+()-]+")
_MONTH = "(?:0[1-9]|1[0-2])"
_MONTH_AND_DAY = rf"{_MONTH}-?(?:0[1-9]|[12]\d|3[01])"
_DATE = rf"20\d\d-?{_MONTH_AND_DAY}"
_YEAR = rf"2[3-9]{_MONTH}|20[23]\d(?:-{_MONTH})?|{_MONTH}-20[23]\d"
_VERSION = re.compile(
    rf"(?:(?:[-@]({_DATE}|{_MONTH_AND_DAY}|{_YEAR}|0\d\d|latest)|:latest)(?:-v\d+:\d+)?|-v\d+:\d+)\Z"
)
"""What may stand at the end of a name: a day, a month, a year, a number such as 001, ``latest``, and Bedrock's ``-v1:0``."""


def other_model(asked: str, answered: str) -> str | None:
    """The model that an answer names, where that is another than the one ``asked`` for; None where it is the same.

    An answer that names no model (``''``) is the asked one's. What is given back is a stranger's text in plain characters:
    others become ``?``, and no more than ``MAX_NAME`` are kept.
    """
    if answered in ("", asked):
        return None
    shown = _ODD.sub("?", answered[:MAX_NAME]).strip()
    if not shown or (len(answered) <= MAX_NAME and _same(asked, answered)):
        return None
    return shown


# an upstream answers with the same few names: two texts are compared once, and not in each answer
@lru_cache(maxsize=1024)
def _same(asked: str, answered: str) -> bool:
    asked, answered = asked.strip().lower(), answered.strip().lower()
    (one, its), (other, others) = _parted(asked), _parted(answered)
    return _is_end_of(one, other) and (its == others or not its or not others)


def _parted(name: str) -> tuple[list[str], str]:
    """The parts of a name between slashes, and its version: '' for none and for the latest."""
    found, version = _VERSION.search(name), ""
    if found is not None:
        name = name[: found.start()]
        version = (found[1] or "").replace("-", "").removeprefix("latest")
    return name.removeprefix("models/").split("/"), version


def _is_end_of(one: list[str], other: list[str]) -> bool:
    """Whether one of two names is the other without what stands before it: a vendor, an account."""
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]
