"""Charts as SVG, drawn here: they need no script, follow the theme, and a table of the same figures stands under each."""

from collections.abc import Sequence

import msgspec
from markupsafe import Markup, escape

_LEFT = 40
_BOTTOM = 22
_TOP = 8
COLOURS = 6


class _Frame(msgspec.Struct, frozen=True):
    """A size to draw in; ``labels`` is how many names of times there is room for."""

    name: str
    width: int
    height: int
    labels: int

    @property
    def inner(self) -> int:
        """The height that figures are drawn in."""
        return self.height - _TOP - _BOTTOM

    def every(self, count: int) -> int:
        """Each how manieth of ``count`` times has its name."""
        return max(1, -(-count // self.labels))

    def opened(self, said: str) -> str:
        """The beginning of the picture."""
        size = f'viewBox="0 0 {self.width} {self.height}"'
        return f'<svg class="chart {self.name}" {size} role="img" aria-label="{escape(said)}">'


_FRAMES = (_Frame("wide", 720, 190, 12), _Frame("narrow", 340, 220, 5))
"""A chart is drawn for a wide window and for a phone, where the other would be too low to read; the style shows one."""


class Stack(msgspec.Struct, frozen=True):
    """One bar: its name, and the height of each series in it."""

    name: str
    parts: tuple[int, ...]


def stacked(bars: Sequence[Stack], series: Sequence[str], limit: int | None, said: str) -> Markup:
    """Bars of stacked ``series``, with ``limit`` as a line where it is near enough to be seen. ``said``: for who hears it."""
    return Markup("").join(_stacked(frame, bars, series, limit, said) for frame in _FRAMES)


def _stacked(
    frame: _Frame, bars: Sequence[Stack], series: Sequence[str], limit: int | None, said: str
) -> Markup:
    highest = max([sum(bar.parts) for bar in bars] + [1])
    top = _round_up(max(highest, limit if limit is not None and limit <= highest * 4 else 0))
    step = (frame.width - _LEFT) / max(1, len(bars))
    parts = [frame.opened(said), *_axes(frame, top)]
    every = frame.every(len(bars))
    for at, bar in enumerate(bars):
        x, y = _LEFT + at * step, float(_TOP + frame.inner)
        for index, value in enumerate(bar.parts):
            if not value:
                continue
            height = frame.inner * value / top
            y -= height
            title = f"<title>{escape(bar.name)}: {escape(series[index])} {value:,}</title>"
            parts.append(
                f'<rect class="c{index % COLOURS + 1}" x="{x + step * 0.14:.1f}" y="{y:.1f}"'
                f' width="{step * 0.72:.1f}" height="{max(height, 0.75):.1f}">{title}</rect>'
            )
        if at % every == 0:
            parts.append(_label(frame, x + step / 2, bar.name))
    if limit is not None and limit <= top:
        y = _TOP + frame.inner * (1 - limit / top)
        parts.append(
            f'<path class="limit" d="M{_LEFT} {y:.1f}H{frame.width}"><title>limit {limit:,}</title></path>'
        )
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - what is not ours in it is escaped above


def _label(frame: _Frame, x: float, name: str) -> str:
    """The name of a time under it, not beyond the edges."""
    x = min(max(x, _LEFT + 4), frame.width - 16)
    return f'<text x="{x:.1f}" y="{frame.height - 6}" text-anchor="middle">{escape(name[-5:])}</text>'


class Line(msgspec.Struct, frozen=True):
    """A series of figures over time, None where there is none."""

    name: str
    values: tuple[int | None, ...]


def lines(names: Sequence[str], series: Sequence[Line], said: str, unit: str) -> Markup:
    """A line for each series over the times of ``names``; a time without a figure breaks it. ``said``: for who hears it."""
    return Markup("").join(_lines(frame, names, series, said, unit) for frame in _FRAMES)


def _lines(frame: _Frame, names: Sequence[str], series: Sequence[Line], said: str, unit: str) -> Markup:
    known = [value for line in series for value in line.values if value is not None]
    top = _round_up(max([*known, 1]))
    step = (frame.width - _LEFT) / max(1, len(names))
    parts = [frame.opened(said), *_axes(frame, top)]
    every = frame.every(len(names))
    parts += [
        _label(frame, _LEFT + (at + 0.5) * step, name) for at, name in enumerate(names) if at % every == 0
    ]
    for index, line in enumerate(series):
        colour = index % COLOURS + 1
        path: list[str] = []
        dots: list[str] = []
        drawing = False
        for at, value in enumerate(line.values):
            if value is None:
                drawing = False
                continue
            x, y = _LEFT + (at + 0.5) * step, _TOP + frame.inner * (1 - value / top)
            path.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
            drawing = True
            title = f"{escape(names[at])}: {escape(line.name)} {value:,} {unit}"
            dots.append(
                f'<circle class="c{colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{title}</title></circle>'
            )
        parts.append(f'<path class="s{colour}" d="{"".join(path)}"/>' + "".join(dots))
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - what is not ours in it is escaped above


def _axes(frame: _Frame, top: int) -> list[str]:
    parts: list[str] = []
    # Half of one is no number of requests, nor a millisecond.
    for share in (0.0, 0.5, 1.0) if top % 2 == 0 else (0.0, 1.0):
        y = _TOP + frame.inner * (1 - share)
        parts.append(f'<path class="axis" d="M{_LEFT} {y:.1f}H{frame.width}"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_short(top * share)}</text>'
        )
    return parts


def _round_up(value: int) -> int:
    """The next number that reads well."""
    size = 10 ** (len(str(value)) - 1)
    return next(step * size for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * size >= value)


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
