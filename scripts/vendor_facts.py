"""Check every row of the provider table against a double of its vendor, and print the facts that are older than ninety days.

Run it from the root of the tree; it opens no connection. It ends with 1 where a double refuses what we would send, and with
0 otherwise: facts that are old, and those that could not be read, are printed to be read again.
"""

import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from penstock.providers.facts import FACTS, OLD_AFTER  # noqa: E402
from penstock.providers.table import PROVIDERS  # noqa: E402
from tests.providers.vendors import tried  # noqa: E402

refused = sent = 0
for kind in PROVIDERS:
    for name, said in tried(kind):
        sent += 1
        if said:
            refused += 1
            print(f"refused: {name}: {'; '.join(said)}")
print(f"{sent} requests, {refused} refused")

today = date.fromisoformat(sys.argv[1]) if len(sys.argv) > 1 else date.today()  # noqa: DTZ011
for kind, facts in FACTS.items():
    for fact in facts:
        age = (today - date.fromisoformat(fact.read)).days if fact.read else None
        if age is None or age > OLD_AFTER:
            told = "unverified" if age is None else f"{age} days old"
            print(f"{told}: {kind} {fact.models}: {', '.join(fact.habits)} ({fact.source})")
sys.exit(1 if refused else 0)
