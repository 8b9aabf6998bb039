"""The operator's brand on the pages: a logo, a colour, a footer, a landing text, and where to ask for help.

Files lie in the folder ``pages`` of the data directory: ``logo.svg`` or ``logo.png``, ``footer.md`` and ``landing.md``. They
are read when a process starts, but the landing text, which is read for each visit as the terms are. Of a colour its hue
and its strength are taken: how light it is stays ours, so that text on it can be read, in both themes.
"""

import math
from hashlib import sha256
from pathlib import Path

import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.settings import Settings

LOGOS = (("logo.svg", "image/svg+xml"), ("logo.png", "image/png"))
"""The files that are looked for, in this order."""
MOST_LOGO = 256 * 1024
"""Bytes of a logo; a larger one is not shown."""
_MOST_CHROMA = 0.13
_KEPT = "public, max-age=31536000, immutable"
_ALONE = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""What a logo may do when somebody opens it by itself: nothing."""


class Brand(msgspec.Struct, frozen=True):
    """What pages are given. ``logo`` and ``colors`` are paths, '' for none; ``support`` is an address with its scheme."""

    name: str
    logo: str = ""
    colors: str = ""
    support: str = ""
    footer: Markup = Markup("")


class BrandFiles:
    """The logo and the colours as files of the site."""

    def __init__(self, settings: Settings) -> None:
        """Reads the operator's files. A logo that cannot be read, or is too large, is none."""
        folder = settings.data / "pages"
        self._logo, self._type = _logo(folder)
        self._colors = colors(settings.brand_color).encode() if settings.brand_color else b""
        footer = _text(folder / "footer.md")
        self.brand = Brand(
            settings.brand,
            logo=f"/brand/logo?v={_version(self._logo)}" if self._logo else "",
            colors=f"/brand/colors.css?v={_version(self._colors)}" if self._colors else "",
            support=support_link(settings.support),
            footer=_rendered(footer) if footer else Markup(""),
        )

    def routes(self) -> list[Route]:
        """Every route, by hand; none for what there is not."""
        found: list[Route] = []
        if self._logo:
            found.append(Route("/brand/logo", self._serve_logo))
        if self._colors:
            found.append(Route("/brand/colors.css", self._serve_colors))
        return found

    async def _serve_logo(self, _request: Request) -> Response:
        headers = {"cache-control": _KEPT, "content-security-policy": _ALONE}
        return Response(self._logo, media_type=self._type, headers=headers)

    async def _serve_colors(self, _request: Request) -> Response:
        return Response(self._colors, media_type="text/css", headers={"cache-control": _KEPT})


def support_link(support: str) -> str:
    """Where ``support`` leads: a page, or a mail."""
    return support if not support or support.startswith(("https:", "http:")) else f"mailto:{support}"


def colors(color: str) -> str:
    """A stylesheet with the accents of ``#rrggbb``, each as light as ours is."""
    chroma, hue = chroma_and_hue(color)
    strong = min(chroma, _MOST_CHROMA)

    def both(light: float, dark: float, share: float = 1.0) -> str:
        ours = f"{strong * share:.3f} {hue:.0f}"
        return f"light-dark(oklch({light} {ours}), oklch({dark} {ours}))"

    rules = {
        "--accent": both(0.475, 0.775),
        "--accent-ground": both(0.475, 0.62),
        "--accent-soft": both(0.95, 0.275, 0.25),
        "--chart-1": both(0.55, 0.7),
    }
    body = " ".join(f"{name}: {value};" for name, value in rules.items())
    return f":root {{ {body} }}\n"


def chroma_and_hue(color: str) -> tuple[float, float]:
    """The strength and the hue (degrees) of ``#rrggbb`` in OKLCH (Bjorn Ottosson, "A perceptual color space")."""
    red, green, blue = (_linear(int(color[at : at + 2], 16) / 255) for at in (1, 3, 5))
    long = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
    middle = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    short = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    a = 1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short
    b = 0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short
    return math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else math.pow((part + 0.055) / 1.055, 2.4)


def _logo(folder: Path) -> tuple[bytes, str]:
    for name, kind in LOGOS:
        try:
            content = (folder / name).read_bytes()
        except OSError:
            continue
        if 0 < len(content) <= MOST_LOGO:
            return content, kind
    return b"", ""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _rendered(source: str) -> Markup:
    from penstock.site.markdown import render_markdown  # noqa: PLC0415 - 3 MB, where the operator has a footer

    return Markup(render_markdown(source)[0])  # noqa: S704 - the operator's Markdown, with HTML off


def _version(content: bytes) -> str:
    return sha256(content).hexdigest()[:10]
