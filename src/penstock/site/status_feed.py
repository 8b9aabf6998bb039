"""The status page as an Atom feed (RFC 4287): incidents with all that was said of them, and models that end."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from xml.sax.saxutils import escape, quoteattr

from penstock.domain.announcements.incidents import Incident
from penstock.operations.model_endings import ModelEnding


def status_feed(
    brand: str, origin: str, incidents: Sequence[Incident], endings: Sequence[ModelEnding], *, now: int
) -> bytes:
    """The feed; ``origin`` is where the pages are, ``now`` and all times epoch milliseconds."""
    entries = [(it.words[0].at if it.words else it.began_at, _incident(origin, it)) for it in incidents]
    entries += [(it.noticed_at, _ending(origin, it)) for it in endings if it.noticed_at <= now]
    entries.sort(reverse=True)
    newest = entries[0][0] if entries else 0
    page = f"{origin}/status"
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<feed xmlns="http://www.w3.org/2005/Atom">',
        f"<title>{_text(brand)}: status</title>",
        f"<id>{_text(page)}</id>",
        f"<updated>{_moment(newest)}</updated>",
        f"<author><name>{_text(brand)}</name></author>",
        f"<link href={quoteattr(page)}/>",
        f'<link rel="self" href={quoteattr(page + ".atom")}/>',
        *(text for _, text in entries),
        "</feed>",
    ]
    return "\n".join(lines).encode() + b"\n"


def _incident(origin: str, it: Incident) -> str:
    said = [f"{_moment(word.at)}, {word.state}: {word.text}" for word in it.words]
    about = ", ".join(it.models) or "The whole service"
    updated = it.words[0].at if it.words else it.began_at
    return _entry(origin, it.id, f"{it.title} ({it.state})", it.began_at, updated, [about, *said])


def _ending(origin: str, it: ModelEnding) -> str:
    follows = f"{it.successor} takes its place." if it.successor else "Choose another model before that day."
    said = [f"{it.model} is served until the end of the day before {it.day} (UTC).", follows]
    title = f"{it.model} ends on {it.day}"
    return _entry(origin, f"end-{it.model}-{it.day}", title, it.noticed_at, it.noticed_at, said)


def _entry(origin: str, id: str, title: str, published: int, updated: int, said: Iterable[str]) -> str:
    return "\n".join(
        (
            "<entry>",
            f"<id>{_text(f'{origin}/status#{id}')}</id>",
            f"<title>{_text(title)}</title>",
            f"<published>{_moment(published)}</published>",
            f"<updated>{_moment(updated)}</updated>",
            f"<link href={quoteattr(f'{origin}/status')}/>",
            f'<content type="text">{_text(chr(10).join(said))}</content>',
            "</entry>",
        )
    )


def _text(text: str) -> str:
    """As XML has it; what it cannot hold is left out."""
    return escape("".join(sign for sign in text if sign.isprintable() or sign == "\n"))


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
