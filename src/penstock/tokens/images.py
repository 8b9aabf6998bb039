"""Tokens of an image or a document, by rules of size; nothing is decoded beyond a header.

Images, after Anthropic's guide to vision: width x height / 750 once the image is scaled to at most 1,568 pixels on its long
side and about 1.15 megapixels. What cannot be measured (an address, a format not known here) counts as the largest.
Documents, after its guide to PDF: 1,500 to 3,000 tokens of text a page, and each page is an image besides.
"""

import binascii
import re
from math import ceil

LARGEST_IMAGE = 1600
PAGE_TOKENS = 3000

_HEADER = 256 * 1024
"""Characters of base64 in which the size must be found; a photograph may have its preview before it."""
_PIXELS_A_TOKEN = 750
_LONG_SIDE = 1568
_BYTES_A_PAGE = 100 * 1024
_PAGES = re.compile(rb"/Type\s*/Page(?![a-z])")
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""JPEG's start-of-frame markers."""


def image_tokens(data: str) -> int:
    """Tokens of an image in base64."""
    size = _size(_decoded(data[:_HEADER]))
    if size is None or 0 in size:
        return LARGEST_IMAGE
    pixels = size[0] * size[1]
    scale = min(1.0, _LONG_SIDE / max(size))
    return min(LARGEST_IMAGE, ceil(pixels * scale * scale / _PIXELS_A_TOKEN))


def document_tokens(data: str) -> int:
    """Tokens of a PDF in base64: by its pages where they can be seen in its bytes, else by its length."""
    pages = len(_PAGES.findall(_decoded(data)))
    return PAGE_TOKENS * max(1, pages or len(data) // _BYTES_A_PAGE)


def _decoded(data: str) -> bytes:
    try:
        return binascii.a2b_base64(data[: len(data) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""


def _size(head: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, from the first bytes of a PNG, GIF, WebP or JPEG."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head.startswith((b"GIF87a", b"GIF89a")) and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp(head)
    if head.startswith(b"\xff\xd8"):
        return _jpeg(head)
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(
                head[28:30], "little"
            ) & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case _:
            return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        if head[at + 1] in _FRAMES:
            return int.from_bytes(head[at + 7 : at + 9], "big"), int.from_bytes(head[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None
