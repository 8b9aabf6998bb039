"""A key whose account is not the person's own: the account is limited and pays, and the ledger names who acted."""

import asyncio

from sqlalchemy import update

from penstock.domain.accounts import accounts
from penstock.domain.ledger.records import Caller, caller_record, read
from penstock.store.sql.schema import api_keys
from tests.service.running_service import House, User

BODY = b'{"model": "chat-plain", "messages": [{"role": "user", "content": "Hello"}]}'


async def joined(house: House, account: User, actor: User) -> None:
    """The actor's keys are limited by the account from now on."""
    async with house.store.database.transaction() as conn:
        await conn.execute(
            update(api_keys).where(api_keys.c.user_id == actor.id).values(account_id=account.id)
        )


async def test_the_account_is_limited_and_the_ledger_names_who_acted(house: House) -> None:
    account, actor = await house.user("one"), await house.user("lab")
    await joined(house, account, actor)
    answer = await house.post("chat", BODY, actor)
    assert answer.status == 200
    assert answer.headers["x-ratelimit-limit"] == "1000", "the plan is the account's"
    assert (await house.used(account), await house.used(actor)) == (1, 0)
    row = await house.row(account)
    assert (row["user_id"], row["actor_id"]) == (account.id, actor.id)
    own = await house.post("chat", BODY, account)
    assert own.status == 200
    rows = await house.rows(account)
    assert sorted(str(row["actor_id"]) for row in rows) == sorted([actor.id, "None"])


async def test_slots_are_the_accounts(house: House) -> None:
    account, actor = await house.user("one"), await house.user("lab")
    await joined(house, account, actor)
    begun = await house.begin("chat", "chat-hang", actor)
    while house.held(account) < 1:  # noqa: ASYNC110 - the slot is a number
        await asyncio.sleep(0.01)
    assert house.held(actor) == 0
    refused = await house.post("chat", BODY, account)
    assert refused.status == 429
    begun.leave()


async def test_a_change_of_the_account_is_a_change_of_the_key(house: House) -> None:
    await house.restart(cache_seconds=0.0)
    account, actor = await house.user("one"), await house.user("lab")
    await joined(house, account, actor)
    assert (await house.post("chat", BODY, actor)).status == 200
    for changes, status in (
        (accounts.Changes(plan_id="few"), 200),
        (accounts.Changes(disabled=True), 403),
        (accounts.Changes(disabled=False), 200),
    ):
        async with house.store.database.transaction() as conn:
            await accounts.change_user(conn, account.id, changes, now=1)
        assert (await house.post("chat", BODY, actor)).status == status, changes
    answer = await house.post("chat", BODY, actor)
    assert answer.headers["x-ratelimit-limit"] == "5"


def test_a_journal_of_before_names_no_actor_and_one_of_now_does() -> None:
    old = b"\x02\x01\x00\x00\x00" + b"\x92\xa5usr_a\xa5key_a"
    assert old == caller_record(Caller("usr_a", "key_a", 1))
    assert read([old]).rows == {}
    now = caller_record(Caller("org_a", "key_a", 1, "usr_a"))
    assert now.endswith(b"\x93\xa5org_a\xa5key_a\xa5usr_a")
    assert read([now]).rows == {}
