"""The page of who serves the default models is what the catalogue and the dated lists say."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_its_script_prints() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "default_models.py"))["page"]()
    assert (ROOT / "docs" / "default_models.md").read_text("utf-8") == page, (
        "put the output of scripts/default_models.py there"
    )
