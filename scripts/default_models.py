"""Print the page ``docs/default_models.md``: which live model serves each default id, by the vendor whose key is there.

    .venv/bin/python scripts/default_models.py > docs/default_models.md

Everything comes from the default catalogue, the provider table, and the dated lists of models and of their ends; a test
holds the page to them.
"""

from datetime import date, timedelta

from penstock.core.catalog import Model
from penstock.domain.catalog.catalog_store import default_catalog
from penstock.domain.catalog.toml_document import parse
from penstock.providers.known_models import known_models
from penstock.providers.retirements import retirement
from penstock.providers.table import KINDS, PROVIDERS

DOCUMENT = parse(default_catalog(), KINDS)
KNOWN = known_models()
TODAY = date.fromisoformat(KNOWN.read)


def served(model: Model, provider: str) -> list[str]:
    """What this vendor's key has the model served by, in the order in which it is tried."""
    said = []
    for target in sorted((t for t in model.targets if t.provider == provider), key=lambda t: t.priority):
        end = retirement(provider, target.model)
        listed = KNOWN.find(provider, target.model)
        state = "" if listed is not None else ", unverified"
        if end is not None and end.day and date.fromisoformat(end.day) > TODAY + timedelta(days=30):
            state += f", until {end.day}"
        elif end is not None and end.day:
            state += f", ended {end.day}" if date.fromisoformat(end.day) <= TODAY else f", ends {end.day}"
        said.append(f"`{target.model}`{state}")
    return said


def page() -> str:
    """The page, as it is."""
    columns = [
        row
        for row in PROVIDERS.values()
        if row.env and any(t.provider == row.id for m in DOCUMENT.models for t in m.targets)
    ]
    without = [row for row in PROVIDERS.values() if row.env and row not in columns]
    lines = [
        "# Who serves the default models",
        "",
        "For each of the default catalogue's ids: which model of a vendor answers under it when that vendor's key is there, in",
        f"the order in which they are tried. As of {KNOWN.read}. *Unverified*: the vendor's list was not read for that name.",
        "*Ended*: the vendor says that it does not answer any more; what stands after it answers in its place, and the row of",
        "the request says which it was. An id that no key present can serve is in no list of models, is marked not served on",
        "every page of plans, and answers 503 with the variables that would enable it.",
        "",
        "| id | " + " | ".join(f"`{row.env}`" for row in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]  # fmt: skip
    note = ""
    for model in DOCUMENT.models:
        if model.auto:
            chooses = ", ".join(f"`{name}`" for name in model.auto)
            lines.append(f"| `{model.id}` | " + " | ".join("chooses" for _ in columns) + " |")
            note = f"`{model.id}` chooses among those of these that are served: {chooses}."
            continue
        cells = ["<br>".join(served(model, row.id)) or "-" for row in columns]
        lines.append(f"| `{model.id}` | " + " | ".join(cells) + " |")
    lines += ["", note, ""]
    lines += [
        "These keys serve none of the default ids. Their vendors' own models are found at the start and published by a command",
        "([models](providers.md#models-that-are-there-when-a-key-is)):",
        "",
        *(f"- `{row.env}`: {row.name}" for row in without),
        "- `OPENAI_API_KEY`: OpenAI" if all(row.id != "openai" for row in (*columns, *without)) else "",
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
