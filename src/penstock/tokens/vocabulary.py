"""The o200k vocabulary, from the file in this package; nothing is fetched.

Loading takes a third of a second and 90 MB, and holds every other thread up for about 0.15 s of it, once in the life of a
process: so it is left until somebody asks for an estimate. Where the file comes from: ``scripts/vocabulary.sh``.
"""

import hashlib
import lzma
from binascii import a2b_base64
from importlib.resources import files

import tiktoken

SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
"""Of the file inside the compressed one."""

_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Part of the vocabulary: what text is split into before it is looked up."""

_SLICE = 64 * 1024
"""Characters looked up at a time: a text of one kind costs more than its length, and between two slices it can be left off."""


class O200k:
    """Splits text into tokens, to be counted."""

    __slots__ = ("_encoding",)

    def __init__(self) -> None:
        """Raises ``ValueError`` when the file is not the one it should be."""
        packed = files("penstock.tokens").joinpath("o200k_base.tiktoken.xz").read_bytes()
        plain = lzma.decompress(packed)
        if hashlib.sha256(plain).hexdigest() != SHA256:
            raise ValueError("the vocabulary in the package is damaged")
        # one token a line, in base64, and its rank, which is the line's number
        ranks = {a2b_base64(line.split(b" ", 1)[0]): rank for rank, line in enumerate(plain.splitlines())}
        self._encoding = tiktoken.Encoding(
            "o200k_base", pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens={}
        )

    def slices(self, text: str) -> list[str]:
        """The text in the pieces that ``count`` is to be given."""
        return [text[at : at + _SLICE] for at in range(0, len(text), _SLICE)]

    def count(self, piece: str) -> int:
        """Tokens of a piece of text. Other threads run meanwhile."""
        return len(self._encoding.encode_ordinary(piece))
