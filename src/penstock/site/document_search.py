"""Search over the documentation: its sections, by the words that somebody looks for.

A section is what stands below a heading of a page. Every word that is asked for has to be there, whole or within another; words
in headings weigh more than words in the text.
"""

import re
from collections.abc import Iterable, Iterator

import msgspec

MOST_WORDS = 8
"""Words of a question that are looked for."""
MOST_FOUND = 20
"""Sections that are shown."""
_AROUND = 90
"""Characters of text that are shown before and after the first word that was found."""
_HEADING = re.compile(r"(#{1,3}) (.+)")
_MARKS = re.compile(r"\[([^\]]*)\]\([^)]*\)|[`*|]+|^::: ?\w*|^```.*$", re.MULTILINE)


class Section(msgspec.Struct, frozen=True):
    """A part of a page. ``anchor`` is '' for what stands before the first heading but the title."""

    slug: str
    page: str
    anchor: str
    heading: str
    text: str

    @property
    def path(self) -> str:
        """Its address."""
        return f"/docs/{self.slug}#{self.anchor}" if self.anchor else f"/docs/{self.slug}"


class Found(msgspec.Struct, frozen=True):
    """A section with the words in it. ``excerpt`` are pieces of its text, each with whether it is one of the words."""

    section: Section
    excerpt: tuple[tuple[str, bool], ...]


def anchor_of(heading: str) -> str:
    """The anchor of a heading, as addresses name it."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def sections(slug: str, title: str, source: str) -> Iterator[Section]:
    """The sections of a page of Markdown."""
    heading, anchor, lines = title, "", list[str]()
    taken: dict[str, int] = {}
    fenced = False
    for line in source.splitlines():
        fenced ^= line.startswith("```")
        found = None if fenced else _HEADING.fullmatch(line)
        if found is None:
            lines.append(line)
            continue
        if any(lines):
            yield Section(slug, title, anchor, heading, _plain(lines))
        lines = []
        heading = found[2].replace("`", "")
        anchor = "" if len(found[1]) == 1 else anchor_of(found[2])
        if anchor:
            # Of headings that are the same, the later ones have a number, as in the page itself.
            taken[anchor] = taken.get(anchor, -1) + 1
            anchor = f"{anchor}-{taken[anchor]}" if taken[anchor] else anchor
    yield Section(slug, title, anchor, heading, _plain(lines))


def _plain(lines: Iterable[str]) -> str:
    text = _MARKS.sub(lambda found: found[1] or " ", "\n".join(lines))
    return " ".join(text.split())


def search(index: Iterable[Section], question: str) -> list[Found]:
    """The sections that have all words of the question, the best first."""
    words = question.lower().split()[:MOST_WORDS]
    if not words:
        return []
    patterns = [re.compile(re.escape(word), re.IGNORECASE) for word in words]
    scored: list[tuple[int, Section]] = []
    for section in index:
        scores = [_score(section, word) for word in words]
        if all(scores):
            scored.append((sum(scores), section))
    scored.sort(key=lambda one: -one[0])  # of equals, the one that is read first stays first
    return [Found(section, _excerpt(section.text, patterns)) for _, section in scored[:MOST_FOUND]]


def _score(section: Section, word: str) -> int:
    score = 0
    for text, whole, part in (
        (section.heading, 12, 6),
        (section.page, 6, 3),
        (section.text, 3, 1),
    ):
        lower = text.lower()
        if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", lower):
            score += whole
        elif word in lower:
            score += part
    return score


def _excerpt(text: str, patterns: list[re.Pattern[str]]) -> tuple[tuple[str, bool], ...]:
    places = [found.start() for pattern in patterns if (found := pattern.search(text))]
    first = min(places, default=0)
    start = max(0, first - _AROUND)
    if start:
        start = text.rfind(" ", 0, start) + 1
    shown = text[start : first + 2 * _AROUND]
    pieces: list[tuple[str, bool]] = [("… ", False)] if start else []
    any_word = re.compile("|".join(pattern.pattern for pattern in patterns), re.IGNORECASE)
    at = 0
    for found in any_word.finditer(shown):
        pieces += [(shown[at : found.start()], False), (found[0], True)]
        at = found.end()
    pieces.append((shown[at:] + (" …" if first + 2 * _AROUND < len(text) else ""), False))
    return tuple(piece for piece in pieces if piece[0])
