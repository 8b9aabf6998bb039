"""Charts as SVG, drawn here: they need no script, follow the theme, and a table of the same figures stands under each."""

from collections.abc import Sequence

import msgspec
from markupsafe import Markup, escape

WIDTH = 720
HEIGHT = 190
_LEFT = 40
_BOTTOM = 22
_TOP = 8
COLOURS = 6


class Stack(msgspec.Struct, frozen=True):
    """One bar: its name, and the height of each series in it."""

    name: str
    parts: tuple[int, ...]


def stacked(bars: Sequence[Stack], series: Sequence[str], limit: int | None, said: str) -> Markup:
    """Bars of stacked ``series``, with ``limit`` as a line where it is near enough to be seen. ``said``: for who hears it."""
    highest = max([sum(bar.parts) for bar in bars] + [1])
    top = _round_up(max(highest, limit if limit is not None and limit <= highest * 4 else 0))
    inner = HEIGHT - _TOP - _BOTTOM
    step = (WIDTH - _LEFT) / max(1, len(bars))
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">']
    for share in (0.0, 0.5, 1.0):
        y = _TOP + inner * (1 - share)
        parts.append(f'<path class="axis" d="M{_LEFT} {y:.1f}H{WIDTH}"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_short(top * share)}</text>'
        )
    every = max(1, len(bars) // 8)
    for at, bar in enumerate(bars):
        x, y = _LEFT + at * step, float(_TOP + inner)
        for index, value in enumerate(bar.parts):
            if not value:
                continue
            height = inner * value / top
            y -= height
            title = f"<title>{escape(bar.name)}: {escape(series[index])} {value:,}</title>"
            parts.append(
                f'<rect class="c{index % COLOURS + 1}" x="{x + step * 0.14:.1f}" y="{y:.1f}"'
                f' width="{step * 0.72:.1f}" height="{max(height, 0.75):.1f}">{title}</rect>'
            )
        if at % every == 0:
            parts.append(
                f'<text x="{x + step / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(bar.name[-5:])}</text>'
            )
    if limit is not None and limit <= top:
        y = _TOP + inner * (1 - limit / top)
        parts.append(
            f'<path class="limit" d="M{_LEFT} {y:.1f}H{WIDTH}"><title>limit {limit:,}</title></path>'
        )
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - what is not ours in it is escaped above


def _round_up(value: int) -> int:
    """The next number that reads well."""
    size = 10 ** (len(str(value)) - 1)
    return next(step * size for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * size >= value)


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
