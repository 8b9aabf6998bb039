"""Write the table of ``core/dialects/losses.py`` into ``docs/translation.md``, and its sections into the page of the site.

Run it after a change of either; a test fails where they differ.
"""

from pathlib import Path

from penstock.core.dialects.losses import losses_table

ROOT = Path(__file__).resolve().parent.parent
FROM_HERE = "\n## Chat callers"

docs = ROOT / "docs" / "translation.md"
docs.write_text(losses_table(docs.read_text("utf-8")), "utf-8")
_, _, sections = docs.read_text("utf-8").partition(FROM_HERE)

site = ROOT / "src" / "penstock" / "site" / "docs" / "translation.md"
opening, _, _ = site.read_text("utf-8").partition(FROM_HERE)
site.write_text(opening + FROM_HERE + sections, "utf-8")
