"""Icons, drawn for these pages on a grid of 20 by 20, in one stroke."""

from markupsafe import Markup

_ICONS = {
    "gauge": '<path d="M3 14a7 7 0 1 1 14 0M10 14l3.5-4.5"/>',
    "key": '<circle cx="7" cy="13" r="3.5"/><path d="M9.6 10.4 16 4M13.5 6.5l2.5 2.5"/>',
    "rows": '<path d="M3 5h14M3 10h14M3 15h9"/>',
    "bars": '<path d="M4 16v-5M10 16V4M16 16V8"/>',
    "pulse": '<path d="M2 10h4l2-5 4 10 2-5h4"/>',
    "spark": '<path d="M10 3v5M10 12v5M3 10h5M12 10h5"/>',
    "steps": '<path d="M3 16h5v-4h5V8h4V4"/>',
    "dial": '<circle cx="10" cy="10" r="6.5"/><path d="M10 10V5.5"/>',
    "sun": '<circle cx="10" cy="10" r="6.5"/><path d="M10 3.5a6.5 6.5 0 0 1 0 13z" fill="currentColor"/>',
    "copy": '<rect x="7" y="7" width="9" height="9" rx="1.5"/><path d="M13 4.500H6A1.500 1.500 0 0 0 4.500 6v7"/>',
    "menu": '<path d="M3 5.5h14M3 10h14M3 14.5h14"/>',
    "people": '<circle cx="7.5" cy="7" r="2.7"/><path d="M2.5 16c.4-3 2.4-4.5 5-4.5s4.6 1.5 5 4.5M13 4.6a2.7 2.7 0 0 1 0 5"/>',
    "plug": '<path d="M7 3v4M13 3v4M5 7h10v2.500a5 5 0 0 1-10 0zM10 14.500V18"/>',
    "letter": '<rect x="2.500" y="4.500" width="15" height="11" rx="1.500"/><path d="m3 6 7 5 7-5"/>',
    "badge": '<path d="M10 2.500 16 5v4.500c0 3.700-2.500 6.300-6 8-3.500-1.700-6-4.300-6-8V5z"/>',
    "book": '<path d="M4.500 3.500h9a2 2 0 0 1 2 2v11h-9a2 2 0 0 1-2-2zM7.500 7.500h5M7.500 10.500h5"/>',
    "flag": '<path d="M5 17.500v-14M5 4.500c3-1.800 6 1.800 10 0v7c-4 1.800-7-1.800-10 0"/>',
    "out": '<path d="M8 4.500H4v11h11v-4M11 4h5v5M16 4l-7 7"/>',
    "bell": '<path d="M5 14V9a5 5 0 0 1 10 0v5l1.500 1.500h-13zM8.500 17.500h3"/>',
    "check": '<path d="M4 10.500 8 14.500 16 6"/>',
}


def icon(name: str) -> Markup:
    """An icon, for the eye alone."""
    drawn = _ICONS[name]
    return Markup('<svg class="icon" viewBox="0 0 20 20" aria-hidden="true">{}</svg>').format(Markup(drawn))  # noqa: S704 - from the table
