"""Verifies a trail that was taken away as JSON Lines (`penstock audit export`), with nothing but Python: file name, then go.

Prints the number and hash of the last entry, or the first entry that is not as it was written; the exit status is 1 then.
"""

import hashlib
import json
import sys
from pathlib import Path

FIELDS = (
    "id", "at", "actor_kind", "actor_id", "on_behalf_of", "action", "object_kind", "object_id", "before", "after",
    "reason", "request_id", "result", "personal",
)  # fmt: skip
PERSONAL = ("actor_name", "address", "agent", "object_name")


def packed(values: list[object]) -> bytes:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()


def main(path: str) -> int:
    last, number = bytes(32), 0
    with Path(path).open(encoding="utf-8") as lines:
        for text in lines:
            entry = json.loads(text)
            if number == 0 and entry["seq"] != 1:
                print(f"begins at entry {entry['seq']}: compare the one before with a checkpoint")
                last = None
            elif number and entry["seq"] != number + 1:
                print(f"entry {number + 1} is missing")
                return 1
            number = entry["seq"]
            told = packed([entry[name] for name in PERSONAL])
            if (
                entry["salt"]
                and hashlib.sha256(bytes.fromhex(entry["salt"]) + told).hexdigest() != entry["personal"]
            ):
                print(f"entry {number}: a name or an address was changed")
                return 1
            linked = (
                None
                if last is None
                else hashlib.sha256(last + b"\x01" + packed([entry[name] for name in FIELDS]))
            )
            if linked is not None and linked.hexdigest() != entry["hash"]:
                print(f"entry {number} was changed, or stands in another place")
                return 1
            last = bytes.fromhex(entry["hash"])
    print(f"{number}:{(last or b'').hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
