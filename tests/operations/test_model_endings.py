"""Models that their vendors end are told thirty days ahead, with what follows and what is left."""

import secrets
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from penstock.domain.accounts.accounts import create_user
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.toml_document import parse
from penstock.domain.mail import outbox
from penstock.operations.ending_notices import EndingNotices
from penstock.operations.first_start import open_store
from penstock.operations.model_endings import end_of, endings
from penstock.providers.table import KINDS
from penstock.relay.answer_head import NO_END, ModelEnd, ending_headers
from penstock.settings import load
from penstock.store.sql.schema import outbox as outbox_table
from penstock.store.sql.schema import usage_hours

TEXT = """
[[provider]]
id = "openai"
[[provider]]
id = "openrouter"
[[model]]
id = "five"
targets = [{ provider = "openai", model = "gpt-5" }]
[[model]]
id = "mini"
targets = [
    { provider = "openai", model = "gpt-5-mini" },
    { provider = "openrouter", model = "openai/gpt-5-mini", priority = 1 },
]
[[model]]
id = "six"
targets = [{ provider = "openai", model = "gpt-6-luna" }]
"""


def catalog(*keys: str, text: str = TEXT) -> Catalog:
    document = parse(text, KINDS)
    return Catalog(
        providers=document.providers,
        models=document.models,
        plans=(),
        available={f"env:{key}" for key in keys}.__contains__,
        simulator=KINDS["simulator"],
    )


@pytest.mark.parametrize(
    ("day", "told"),
    [
        ("2026-11-10", []),
        ("2026-11-11", ["five", "mini"]),
        ("2026-12-10", ["five", "mini"]),
        ("2027-06-01", ["five", "mini"]),
    ],
)
def test_it_is_told_from_thirty_days_ahead_on(day: str, told: list[str]) -> None:
    found = list(endings(catalog("OPENAI_API_KEY"), date.fromisoformat(day)))
    assert [each.model for each in found] == told


def test_the_sentence_has_the_day_the_successor_and_what_is_left() -> None:
    five, mini = endings(catalog("OPENAI_API_KEY", "OPENROUTER_API_KEY"), date(2026, 12, 1))
    assert five.told(date(2026, 12, 1)) == (
        "five: openai's gpt-5 ends on 2026-12-11; its vendor names gpt-6.1-sol as what follows; nothing else serves it"
    )
    assert "ended on 2026-12-11" in five.told(date(2026, 12, 11))
    assert mini.told(date(2026, 12, 1)).endswith("its other providers serve it still")


TWO_ENDS = """
[[provider]]
id = "openai"
[[provider]]
id = "openrouter"
[[model]]
id = "both"
targets = [
    { provider = "openai", model = "gpt-5" },
    { provider = "openai", model = "gpt-4o", priority = 1 },
]
[[model]]
id = "one"
targets = [
    { provider = "openai", model = "gpt-5" },
    { provider = "openai", model = "gpt-5-mini", priority = 1 },
]
"""


@pytest.mark.parametrize(
    ("day", "told"),
    [
        ("2026-11-20", [("gpt-5", True)]),
        ("2026-12-11", [("gpt-5", True)]),
        ("2026-12-20", [("gpt-5", True), ("gpt-4o", False)]),
        ("2027-01-13", [("gpt-5", True), ("gpt-4o", False)]),
        ("2027-01-14", [("gpt-5", False), ("gpt-4o", False)]),
    ],
)
def test_what_ends_later_serves_it_until_then(day: str, told: list[tuple[str, bool]]) -> None:
    served = catalog("OPENAI_API_KEY", text=TWO_ENDS)
    found = list(endings(served, date.fromisoformat(day)))
    assert [(each.name, each.others) for each in found if each.model == "both"] == told
    assert not any(each.others for each in found if each.model == "one"), "both end on one day"


async def test_accounts_are_mailed_once_when_the_last_of_its_ends_is_near(tmp_path: Path) -> None:
    now = [0.0]
    async with open_store(load({"PENSTOCK_DATA": str(tmp_path)}).settings) as store:
        async with store.database.transaction() as conn:
            user = await create_user(
                conn, "ann@example.com", plan="pro", admin=False, verified=True, now=1, id="usr_1"
            )
        served = catalog("OPENAI_API_KEY", text=TWO_ENDS)
        sent: dict[str, int] = {}
        for day in ("2026-11-20", "2026-12-12", "2026-12-20", "2027-01-12", "2027-01-20"):
            now[0] = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
            counts = dict.fromkeys([column.name for column in usage_hours.c], 0)
            row = {**counts, "user_id": user.id, "hour": int(now[0]) // 3600 - 5, "model": "both"}
            async with store.database.transaction() as conn:
                await conn.execute(insert(usage_hours).values(row))
            sent[day] = await EndingNotices(
                store.database, store.secrets_file, lambda: served, brand="Acme", entropy=secrets.token_bytes,
                now=lambda: now[0], queued=lambda: None,
            ).tell_due()  # fmt: skip
    assert sent == {"2026-11-20": 0, "2026-12-12": 0, "2026-12-20": 1, "2027-01-12": 0, "2027-01-20": 0}


@pytest.mark.parametrize(("emails", "each"), [(("ann@example.com", "bob@example.com"), 2), ((), 0)])
async def test_every_operator_is_mailed_thirty_days_seven_days_and_no_days_ahead(
    tmp_path: Path, emails: tuple[str, ...], each: int
) -> None:
    now = [0.0]
    async with open_store(load({"PENSTOCK_DATA": str(tmp_path)}).settings) as store:
        async with store.database.transaction() as conn:
            for number, email in enumerate(emails):
                await create_user(
                    conn, email, plan="pro", admin=True, verified=True, now=1, id=f"usr_{number}"
                )
        served = catalog("OPENAI_API_KEY")
        queued: list[int] = []

        def notices() -> EndingNotices:
            return EndingNotices(
                store.database, store.secrets_file, lambda: served, brand="Acme", entropy=secrets.token_bytes,
                now=lambda: now[0], queued=lambda: queued.append(1),
            )  # fmt: skip

        sent: list[int] = []
        for day in (
            "2026-11-10",
            "2026-11-11",
            "2026-11-20",
            "2026-12-04",
            "2026-12-05",
            "2026-12-11",
            "2026-12-30",
        ):
            now[0] = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
            sent.append(await notices().tell_due() + await notices().tell_due())
        assert sent == [0, 2 * each, 0, 2 * each, 0, 2 * each, 0]
        assert bool(queued) is bool(each)


async def test_case_31_accounts_that_use_a_model_which_ends_are_mailed_once(tmp_path: Path) -> None:
    """Thirty days ahead; of a model that another provider serves on, and of one that they do not use, they hear nothing."""
    now = datetime(2026, 11, 12, tzinfo=UTC).timestamp()
    async with open_store(load({"PENSTOCK_DATA": str(tmp_path)}).settings) as store:
        hour = int(now) // 3600
        async with store.database.transaction() as conn:
            for number, (model, back) in enumerate((("five", 5), ("five", 40 * 24), ("mini", 5), ("six", 5))):
                user = await create_user(
                    conn,
                    f"u{number}@example.com",
                    plan="pro",
                    admin=False,
                    verified=True,
                    now=1,
                    id=f"usr_{number}",
                )
                counts = dict.fromkeys([column.name for column in usage_hours.c], 0)
                row = {**counts, "user_id": user.id, "hour": hour - back, "model": model}
                await conn.execute(insert(usage_hours).values(row))
        served = catalog("OPENAI_API_KEY", "OPENROUTER_API_KEY")
        for _ in range(2):
            await EndingNotices(
                store.database, store.secrets_file, lambda: served, brand="Acme", url="https://acme.example",
                entropy=secrets.token_bytes, now=lambda: now, queued=lambda: None,
            ).tell_due()  # fmt: skip
        async with store.database.connect() as conn:
            due = await outbox.told_of(conn, next(iter(await conn.scalars(select(outbox_table.c.kind)))))
        assert due == {"u0@example.com"}
        async with store.database.transaction() as conn:
            taken = await outbox.take(conn, store.secrets_file, now=int(now * 1000), hold_ms=1)
        assert taken is not None
        mail = taken.mail
        assert mail.subject == "Acme: five ends on 2026-12-11"
        assert "https://acme.example/models" in "".join(mail.paragraphs)


def test_case_31_answers_say_the_end_from_thirty_days_ahead_on() -> None:
    served = catalog("OPENAI_API_KEY", "OPENROUTER_API_KEY")
    ends = {id: end_of(served, model) for id, model in served.models.items()}
    assert ends == {"five": "2026-12-11", "mini": "", "six": ""}
    noticed = datetime(2026, 11, 11, tzinfo=UTC).timestamp()
    end = ModelEnd("2026-12-11")
    assert ending_headers(end, noticed - 1) == ending_headers(NO_END, noticed) == []
    assert ending_headers(end, noticed) == [
        (b"deprecation", b"@%d" % noticed), (b"sunset", b"Fri, 11 Dec 2026 00:00:00 GMT"),
    ]  # fmt: skip


def test_a_vendor_without_a_key_and_a_simulated_catalogue_end_nothing() -> None:
    assert not list(endings(catalog("OPENROUTER_API_KEY"), date(2027, 1, 1)))
    assert not list(endings(catalog(), date(2027, 1, 1)))
