"""The operator's brand: logo, colour, footer, landing text and where to ask, on pages and in mails; none of it by default."""

from pathlib import Path

import pytest

from penstock.settings import SettingsError, load
from penstock.site.brand import MOST_LOGO, chroma_and_hue, colors
from tests.site.page_reader import PASSWORD, open_hotel

LOGO = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><script>alert(1)</script><rect width="8" height="8"/></svg>'
CHANGES = {"brand": "Acme", "brand_color": "#b3005e", "support": "help@acme.example"}


def with_files(folder: Path, **more: bytes) -> None:
    pages = folder / "data" / "pages"
    pages.mkdir(parents=True)
    files = {
        "logo.svg": LOGO,
        "footer.md": b"Run by **Acme** <b>Ltd</b>, [imprint](https://acme.example/imprint)",
        **more,
    }
    for name, content in files.items():
        (pages / name).write_bytes(content)


async def test_every_page_has_the_operators_brand(tmp_path: Path) -> None:
    with_files(tmp_path, **{"landing.md": b"# {{brand}} answers\n\nAsk us anything."})
    async with open_hotel(tmp_path, **CHANGES) as hotel:
        reader = hotel.reader()
        home = await reader.get("/")
        for page in (home, await reader.get("/signin"), await reader.get("/nowhere")):
            assert '<img src="/brand/logo?v=' in page.text
            assert '<link rel="stylesheet" href="/brand/colors.css?v=' in page.text
            assert '<a href="mailto:help@acme.example">Support</a>' in page.text
            assert '<a href="https://acme.example/imprint"' in page.text
            assert "&lt;b&gt;Ltd" in page.text
        assert "Acme answers" in home.text
        assert "Many models" not in home.text
        assert "A penstock is the gate" not in home.text
        logo = await reader.get("/brand/logo")
        assert (logo.content, logo.headers["content-type"]) == (LOGO, "image/svg+xml")
        assert "sandbox" in logo.headers["content-security-policy"]
        sheet = await reader.get("/brand/colors.css")
        assert sheet.text == colors("#b3005e")
        answer = await reader.post("/signup", email="ann@example.com", password=PASSWORD)
        assert answer.status_code == 303
        await hotel.posted()
        (mail,) = (tmp_path / "mails").glob("*.eml")
        text = mail.read_bytes().decode()
        assert "Reply-To: help@acme.example" in text
        assert "Questions? help@acme.example" in text


async def test_without_a_brand_there_is_nothing_of_it(tmp_path: Path) -> None:
    async with open_hotel(tmp_path) as hotel:
        reader = hotel.reader()
        home = await reader.get("/")
        assert "/brand/" not in home.text
        assert "Support" not in home.text
        assert "Many models" in home.text
        assert (await reader.get("/brand/logo")).status_code == 404


@pytest.mark.parametrize("content", [b"", b"x" * (MOST_LOGO + 1)])
async def test_a_logo_that_is_none_or_too_large_is_left_out(tmp_path: Path, content: bytes) -> None:
    with_files(tmp_path, **{"logo.svg": content})
    async with open_hotel(tmp_path, support="https://acme.example/help") as hotel:
        home = await hotel.reader().get("/")
        assert "/brand/logo" not in home.text
        assert '<a href="https://acme.example/help">Support</a>' in home.text


@pytest.mark.parametrize(
    ("color", "chroma", "hue"),
    [("#ff0000", 0.2577, 29), ("#00ff00", 0.2948, 142), ("#0000ff", 0.3132, 264), ("#808080", 0.0, None)],
)
def test_the_hue_of_a_color_is_that_of_oklch(color: str, chroma: float, hue: int | None) -> None:
    found = chroma_and_hue(color)
    assert found[0] == pytest.approx(chroma, abs=0.002)
    assert hue is None or found[1] == pytest.approx(hue, abs=1.0)


@pytest.mark.parametrize(
    "given",
    [
        {"PENSTOCK_BRAND_COLOR": "red"},
        {"PENSTOCK_BRAND_COLOR": "#fff"},
        {"PENSTOCK_SUPPORT": "javascript:alert(1)"},
        {"PENSTOCK_SUPPORT": 'https://x"y'},
    ],
)
def test_what_is_no_color_and_no_address_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        load(given)
