"""The form of Messages' deltas: what stands round a piece of text, of a thought or of a call's arguments."""

import re

from penstock.core.dialects.forms import TextForm
from penstock.core.sse import STRING

PIECE = re.compile(
    rb'event: content_block_delta\ndata: \{"type": ?"content_block_delta", ?"index": ?\d{1,6}, ?"delta": ?'
    rb'\{"type": ?"(?:text|thinking|input_json)_delta", ?"(?:text|thinking|partial_json)": ?('
    + STRING
    + rb") {0,64}\} {0,64}\}\n\n"
)
"""The one frame that nearly all reads are, with its piece as JSON."""


def form_of(raw: bytes) -> TextForm | None:
    """The form of a frame; None for any that is not in the usual writing."""
    piece = PIECE.fullmatch(raw)
    if piece is None:
        return None
    return TextForm(raw[: piece.start(1) + 1], raw[piece.end(1) - 1 :])
