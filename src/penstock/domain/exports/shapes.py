"""Shapes of exported receipts as lines: one JSON object each, or rows of FOCUS, which tools of finance teams read."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from penstock.domain.exports.focus import FOCUS_HEAD, focus_rows
from penstock.domain.exports.receipt import ExportedReceipt

_encode = msgspec.json.Encoder().encode


class LineShape(msgspec.Struct, frozen=True):
    """How receipts are written into files and objects; ``head`` is the first line of each, b"" where there is none."""

    ending: str
    kind: bytes
    head: bytes
    lines: Callable[[Sequence[ExportedReceipt]], bytes]


def _json_lines(receipts: Sequence[ExportedReceipt]) -> bytes:
    return b"".join(_encode(each) + b"\n" for each in receipts)


LINE_SHAPES: Final = {
    "receipts": LineShape("jsonl", b"application/x-ndjson", b"", _json_lines),
    "focus": LineShape("csv", b"text/csv; charset=utf-8", FOCUS_HEAD, focus_rows),
}
