"""Writes the admin API's part of ``src/penstock/site/openapi.json`` and its table in ``docs/operations/admin_api.md``.

Run it after a change of the table of operations, or of what they take and give: ``python scripts/write_admin_contract.py``.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from penstock.settings import Settings
from penstock.site.admin.context import AdminContext
from penstock.site.admin_api.api import admin_api
from penstock.site.admin_api.description import SCHEMA_PREFIX, SECURITY, AdminPart, admin_contract
from penstock.site.admin_api.parity import BASE, parity_markdown

ROOT = Path(__file__).parent.parent
CONTRACT = ROOT / "src" / "penstock" / "site" / "openapi.json"
GUIDE = ROOT / "docs" / "operations" / "admin_api.md"
OURS = (SCHEMA_PREFIX, SECURITY)
TABLE = re.compile(r"(<!-- operations -->\n).*?(<!-- end of operations -->)", re.DOTALL)


def contract(document: dict[str, Any]) -> dict[str, Any]:
    """The contract with the part of the admin API as it is now."""
    rules = SimpleNamespace(brand="", url="")
    site = SimpleNamespace(sign_in=SimpleNamespace(rules=rules), clock=None, secrets_file=None)
    operation = SimpleNamespace(settings=Settings(), kinds={}, checks=None)
    context = cast("AdminContext", SimpleNamespace(site=site, operation=operation))
    made = with_part(document, admin_contract(admin_api(context).operations))
    return msgspec.json.decode(msgspec.json.encode(made))


def with_part(document: dict[str, Any], part: AdminPart) -> dict[str, Any]:
    """The contract with this part in place of the one that it has."""
    kept = {path: found for path, found in document["paths"].items() if not path.startswith(BASE)}
    components = {
        kind: {name: found for name, found in named.items() if not name.startswith(OURS)}
        for kind, named in document["components"].items()
    }
    for kind, named in part.components.items():
        components[kind] = components.get(kind, {}) | named
    return {**document, "paths": kept | part.paths, "components": components}


def main() -> None:
    """Write both."""
    document = contract(msgspec.json.decode(CONTRACT.read_bytes()))
    CONTRACT.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    text = GUIDE.read_text("utf-8")
    GUIDE.write_text(TABLE.sub(lambda found: found[1] + parity_markdown() + found[2], text), "utf-8")


if __name__ == "__main__":
    main()
