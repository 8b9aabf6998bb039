"""Accounts: which addresses are taken, when two of them are one mailbox, and what can be changed."""

import asyncio
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.policy import SMTP, default
from pathlib import Path

import pytest
from aiosmtplib.email import extract_recipients
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from penstock.domain.accounts import accounts
from penstock.domain.accounts.accounts import BadEmail, Changes, EmailTaken, NoSuchPlan, NoSuchUser
from penstock.domain.mail import messages
from penstock.operations.mail_sender import compose_message
from penstock.store.sql.database import Database
from penstock.store.sql.schema import users
from tests.domain.people import NOW, make_user, open_database
from tests.stores import Engine


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(engine, tmp_path) as database:
        yield database


@pytest.mark.parametrize(
    ("text", "email"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  Ann.B+tag@Example.COM\n", "Ann.B+tag@example.com"),
        ("o'neil_{x}@a-b.example", "o'neil_{x}@a-b.example"),
        ("me@localhost", "me@localhost"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("a@b.xn--p1ai", "a@b.xn--p1ai"),
    ],
)
def test_an_address_is_read(text: str, email: str) -> None:
    assert accounts.parse_email(text) == email


@pytest.mark.parametrize(
    "text",
    [
        "", "ann", "@example.com", "ann@", "ann@example", "a@b@example.com", "a b@example.com", "ann@exa mple.com",
        "ann@-example.com", "ann@example-.com", "ann@example..com", "ann@.com", "ann@example.com.", ".a@example.com",
        "a..b@example.com", "a.@example.com", "ann\r\nBcc: x@example.com", "ann@example.com\nBcc", "ann@10.0.0.1",
        "ann@[10.0.0.1]", '"a"@example.com', "änn@example.com", "ann@straße.example", "ann@a\u200db.example",
        "x" * 65 + "@example.com", "ann@" + "x" * 64 + ".com", "a@" + "x." * 130 + "com", "ann@exam_ple.com", "a\x00@b.c",
        "=?utf-8?q?ann?=@example.com", "a=?b@example.com", "=?@example.com", "ann.=?x@example.com", "?=?=@example.com",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadEmail) as caught:
        accounts.parse_email(text)
    assert caught.value.param == "email"


# what is left of an address after each of these is often one that a header would read as something else
ODD_LOCAL = st.text("ab=?q_.'`{%-9", min_size=1, max_size=64) | st.text(
    st.characters(min_codepoint=0, max_codepoint=0x2FF), max_size=70
)
ODD_LABEL = st.text("ab9-", min_size=1, max_size=63)
ODD_DOMAIN = st.lists(ODD_LABEL, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "example"]))
LONG = (
    "a" * 64 + "@" + ".".join(["b" * 61] * 3) + ".c",
    "=" * 64 + "@a.b",
    "?" * 64 + "@a.b",
    "a=?=@a.b",
    "a?=@a.b",
)


@given(st.sampled_from(LONG) | st.builds("{}@{}".format, ODD_LOCAL, ODD_DOMAIN))
def test_each_address_that_is_taken_is_one_that_a_mail_goes_to(text: str) -> None:
    try:
        address = accounts.parse_email(text)
    except BadEmail:
        return
    mail = messages.verification("Acme", address, "123456")
    written = compose_message(mail, "Acme <no-reply@acme.example>", "eml_1", 0.0)
    assert extract_recipients(written) == [address], "who the mail server is told"
    for data in (bytes(written), written.as_bytes(policy=SMTP)):
        read = message_from_bytes(data, policy=default)
        assert [found.addr_spec for found in read["To"].addresses] == [address], "who the recipient reads"


async def test_an_account_from_before_with_an_address_that_takes_no_mail_is_found(database: Database) -> None:
    bad = "=?utf-8?q?ann?=@example.com"
    user = await make_user(database, "ann@example.com")
    async with database.transaction() as conn:
        await conn.execute(
            update(users)
            .where(users.c.id == user.id)
            .values(email=bad, email_canonical=accounts.canonical_email(bad))
        )
        found = await accounts.user_by_email(conn, bad)
        assert found.id == user.id
        assert (await accounts.change_email(conn, user.id, "ann@example.com")).email == "ann@example.com"
        with pytest.raises(BadEmail, match="=\\?"):
            await accounts.change_email(conn, user.id, bad)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        email = accounts.parse_email(text)
    except BadEmail:
        return
    assert accounts.parse_email(email) == email
    assert email.isascii()
    assert not set(email) & set(" \r\n\t\x00<>,;")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann@Example.com", "ann@example.com"),
        ("a.n.n+x@gmail.com", "ann@googlemail.com"),
        ("ann+x@outlook.com", "ann@outlook.com"),
    ],
)
def test_one_mailbox(one: str, other: str) -> None:
    assert accounts.canonical_email(one) == accounts.canonical_email(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.nn@example.com", "ann@example.com"),
        ("ann+x@example.com", "ann@example.com"),
        ("+x@gmail.com", "+y@gmail.com"),
    ],
)
def test_two_mailboxes(one: str, other: str) -> None:
    assert accounts.canonical_email(one) != accounts.canonical_email(other)


async def test_made_found_and_changed(database: Database) -> None:
    user = await make_user(database, "Ann@Example.com", verified=False)
    async with database.transaction() as conn:
        assert await accounts.user_by_email(conn, "ann@example.COM") == user
        assert (user.email, user.verified_at, user.disabled_at) == ("Ann@example.com", None, None)
        changes = Changes(plan_id="pro", verified=True, disabled=True)
        changed = await accounts.change_user(conn, user.id, changes, now=NOW + 1)
        again = await accounts.change_user(conn, user.id, Changes(verified=True), now=NOW + 2)
    assert (changed.plan_id, changed.verified_at, changed.disabled_at) == ("pro", NOW + 1, NOW + 1)
    assert again == changed
    async with database.transaction() as conn:
        opened = await accounts.change_user(conn, user.id, Changes(disabled=False), now=NOW)
        assert opened.disabled_at is None
    async with database.connect() as conn:
        assert await accounts.list_users(conn) == (opened,)
        assert await accounts.list_users(conn, after="ann@example.com") == ()


async def test_a_mailbox_has_one_account(database: Database) -> None:
    await make_user(database, "a.nn@gmail.com")
    with pytest.raises(EmailTaken, match=r"as a\.nn@gmail\.com, which is the same mailbox"):
        await make_user(database, "ann+free@googlemail.com")
    with pytest.raises(EmailTaken, match=r"^There is already an account for A\.NN@gmail\.com\.$"):
        await make_user(database, "A.NN@gmail.com")


async def test_of_many_who_claim_an_address_at_once_one_gets_it(database: Database) -> None:
    claims = [make_user(database, f"ann+{n}@gmail.com") for n in range(20)]
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(isinstance(outcome, accounts.User) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, EmailTaken) for outcome in outcomes) == 19


async def test_a_plan_must_exist(database: Database) -> None:
    user = await make_user(database)
    async with database.transaction() as conn:
        with pytest.raises(NoSuchPlan, match="no plan 'gold'; there are free, pro"):
            await accounts.change_user(conn, user.id, Changes(plan_id="gold"), now=NOW)
        with pytest.raises(NoSuchPlan):
            await accounts.create_user(
                conn, "b@example.com", plan="gold", admin=False, verified=True, now=NOW, id="usr_1"
            )


async def test_who_is_not_there_is_said(database: Database) -> None:
    async with database.connect() as conn:
        assert not await accounts.any_user(conn)
        with pytest.raises(NoSuchUser, match=r"no account for nobody@example\.com"):
            await accounts.user_by_email(conn, "nobody@example.com")
        with pytest.raises(NoSuchUser):
            await accounts.get_user(conn, "usr_nobody")
