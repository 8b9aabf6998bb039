"""The form of Responses' deltas: what stands round a piece of text, of reasoning or of a call's input.

Their number is another one in each, and so may be the padding that hides how long a piece is.
"""

import re
from itertools import pairwise

from penstock.core.dialects.forms import NUMBER, PADDING, Form, NumberedForm
from penstock.core.sse import STRING

_MEMBER = rb'"[a-z_]{1,40}": ?(?:' + STRING + rb"|\d{1,15}|\[\]|null)"
PIECE = re.compile(
    rb'event: response\.[a-z_.]{1,60}\.delta\ndata: \{"type": ?"response\.[a-z_.]{1,60}\.delta"'
    rb"(?>(?:, ?(?!\"delta\")"
    + _MEMBER
    + rb')*), ?"delta": ?('
    + STRING
    + rb")(?>(?:, ?(?!\"delta\")"
    + _MEMBER
    + rb")*)\}\n\n"
)
"""The one frame that nearly all reads are, with its piece as JSON."""
_OTHER_HOLES = re.compile(rb'(?<="sequence_number":)( ?)(\d{1,15})|(?<="obfuscation":)( ?")([^"\\]*)(?=")')


def form_of(raw: bytes) -> Form | None:
    """The form of a frame; None for any that is not in the usual writing."""
    piece = PIECE.fullmatch(raw)
    if piece is None:
        return None
    holes: list[tuple[int, int, re.Pattern[bytes] | None]] = [(piece.start(1) + 1, piece.end(1) - 1, None)]
    for found in _OTHER_HOLES.finditer(raw):
        which = 2 if found[2] is not None else 4
        hole = NUMBER if which == 2 else PADDING
        if hole.fullmatch(raw, *found.span(which)) is None:
            return None
        holes.append((*found.span(which), hole))
    holes.sort(key=lambda each: each[0])
    pieces = [raw[: holes[0][0]]]
    for (_, end, _), (start, _, _) in pairwise(holes):
        pieces.append(raw[end:start])
    pieces.append(raw[holes[-1][1] :])
    return NumberedForm(pieces, [hole for _, _, hole in holes])
