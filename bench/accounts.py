"""A script for the interpreter whose Penstock is measured: makes accounts on the plan ``bench`` and prints a key of each.

    PENSTOCK_DATA=DIRECTORY python -P bench/accounts.py COUNT

One transaction, by the functions of the command line: a process for each account would take half an hour.
"""

import asyncio
import secrets
import sys

from penstock.commands.installation import HERE, now_ms, open_installation
from penstock.domain.accounts import accounts
from penstock.domain.keys import management


async def make(count: int) -> list[str]:
    """The keys of so many new accounts."""
    keys: list[str] = []
    async with open_installation(HERE) as store, store.database.transaction() as conn:
        for number in range(count):
            id = accounts.new_user_id(secrets.token_bytes(16))
            email = f"bench-{number}@example.com"
            now = now_ms()
            await accounts.create_user(conn, email, plan="bench", admin=False, verified=True, now=now, id=id)
            made = await management.create_key(
                conn, store.secrets_file, id, management.KeyWish(), now=now, entropy=secrets.token_bytes, keep=False
            )  # fmt: skip
            keys.append(made.key)
    return keys


if __name__ == "__main__":
    print("\n".join(asyncio.run(make(int(sys.argv[1])))))
