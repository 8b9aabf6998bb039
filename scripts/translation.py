"""Write the tables of losses, finish words, failure classes and facts into the docs, and the sections into the site's page.

Run it after a change of either; a test fails where they differ.
"""

from pathlib import Path

from penstock.core.dialects.finish_words import FINISH_WORDS
from penstock.core.dialects.losses import losses_table
from penstock.core.failure_classes.classes import HANDLING
from penstock.providers.facts import FACTS

ROOT = Path(__file__).resolve().parent.parent
FROM_HERE = "\n## Chat callers"


def with_rows(page: str, header: str, rows: list[str]) -> str:
    """The page with ``rows`` in the table that begins with the line ``header``, in place of what stood there."""
    lines = page.split("\n")
    start = lines.index(header) + 2
    end = next(at for at in range(start, len(lines)) if not lines[at].startswith("|"))
    return "\n".join([*lines[:start], *rows, *lines[end:]])


docs = ROOT / "docs" / "translation.md"
words = [
    f"| {row.dialect} | `{row.word}` | {row.meaning} | {row.vendors} | {row.source or 'unverified'} |"
    for row in FINISH_WORDS
]
page = with_rows(
    losses_table(docs.read_text("utf-8")), "| format | word | means | who sends it | read in |", words
)
docs.write_text(page, "utf-8")

providers = ROOT / "docs" / "providers.md"
classes = [
    f"| `{name}` | {row.fault} | {row.next} | {row.again} | {row.against} | {row.status}"
    + (f" `{row.code}` |" if row.code else " |")
    for name, row in HANDLING.items()
]
facts = [
    f"| `{kind}` | {fact.models or 'all'} | {', '.join(f'`{habit}`' for habit in fact.habits)} | {fact.says} | {fact.source} | "
    f"{fact.read or 'unverified'} |"
    for kind, rows in FACTS.items()
    for fact in rows
]
header = "| class | whose fault | asked next | the same again | held against | the caller's status and code |"
text = with_rows(providers.read_text("utf-8"), header, classes)
text = with_rows(text, "| id | models | habits | what is said | where | read |", facts)
providers.write_text(text, "utf-8")
_, _, sections = docs.read_text("utf-8").partition(FROM_HERE)

site = ROOT / "src" / "penstock" / "site" / "docs" / "translation.md"
opening, _, _ = site.read_text("utf-8").partition(FROM_HERE)
site.write_text(opening + FROM_HERE + sections, "utf-8")
