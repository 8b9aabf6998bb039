"""Pages, commands and the admin API: one table of what they do, walked row by row (case 40)."""

import asyncio
import importlib
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from penstock.cli import main
from penstock.domain.accounts import accounts
from penstock.domain.keys import management
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Entry, TrailFilter
from penstock.site.admin.admin_site import AdminSite
from penstock.site.admin_api.parity import PARITY, ParityRow, parity_markdown
from penstock.store.sql.schema import api_keys, plans, upstream_state, users
from scripts.write_admin_contract import CONTRACT, GUIDE, contract
from tests.site.page_reader import PASSWORD, Reader, open_hotel
from tests.site.staff import member
from tests.site.test_admin_api import Caller, Staffed

SOURCE = Path(__file__).parents[2] / "src" / "penstock"
SWITCH = "/admin/providers/absent/switch"
SERVED_BY_NOBODY = "absent"
"""A provider of the tests' catalogue whose secret is not there."""


def test_the_contract_and_the_guide_have_the_table_as_it_is() -> None:
    document = msgspec.json.decode(CONTRACT.read_bytes())
    assert contract(document) == document, "run scripts/write_admin_contract.py"
    assert parity_markdown() in GUIDE.read_text("utf-8"), "run scripts/write_admin_contract.py"
    components = document["components"]
    for kind, name in re.findall(r"#/components/(\w+)/([\w.-]+)", str(document)):
        assert name in components[kind], name


def test_what_one_way_lacks_has_its_reason_and_what_it_has_is_there() -> None:
    """Commands are asked for their help, and every function is one that all ways can call."""
    assert len({row.name for row in PARITY}) == len(PARITY)
    assert len({row.route for row in PARITY if row.route}) == len([row for row in PARITY if row.route])
    commands = {path.stem: path.read_text() for path in (SOURCE / "commands").glob("*.py")}
    for row in PARITY:
        if not (row.page and row.command and row.route):
            assert row.gap, row.name
        named: Any = importlib.import_module("penstock")
        for part in row.function.split("."):
            try:
                named = getattr(named, part)
            except AttributeError:
                named = importlib.import_module(f"{named.__name__}.{part}")
        first, *rest = row.command.split() or [""]
        if first:
            assert any(f'name="{first}"' in text or f"def {first}(" in text for text in commands.values()), (
                row.name
            )
        module = "".join(text for name, text in commands.items() if name.partition("_")[0] == first)
        for word in rest:
            if word.startswith("--"):
                assert word in module or word.removeprefix("--") in module, (row.name, word)
            else:
                assert re.search(rf'name="{word}"|def {word}\(', module), (row.name, word)


def test_all_ways_call_the_function_of_the_table() -> None:
    def text_of(folder: str) -> str:
        return "\n".join(path.read_text() for path in (SOURCE / folder).rglob("*.py"))

    pages, api, commands = text_of("site/admin"), text_of("site/admin_api"), text_of("commands")
    for row in PARITY:
        if not row.writes or row.name in {"upstream_test", "provider_models"}:
            continue
        name = ".".join(row.function.split(".")[-2:])
        for way, text in ((row.page, pages), (row.command, commands), (row.route, api)):
            apart = row.name == "mail_test" and text is commands
            assert not way or apart or name in text, (row.name, way)


# ---- what each way does


class Ways:
    """The three ways to do something: a page, a command, a program."""

    def __init__(self, staffed: Staffed, owner: Reader, api: Caller) -> None:
        self.staffed = staffed
        self.owner = owner
        self.api = api
        self.number = 0
        self.incident = ""
        self.banner = ""

    async def page(self, path: str, /, **fields: str) -> None:
        answer = await self.owner.post(path, **fields)
        assert answer.status_code in {200, 303}, answer.text

    async def command(self, *arguments: str) -> None:
        data = str(self.staffed.hotel.house.store.settings.data)
        assert await asyncio.to_thread(main, [*arguments, "--data", data]) == 0, arguments

    async def call(self, route: str, body: object = None) -> None:
        answer = await self.api(route, body)
        assert answer.status_code == 200, answer.text

    async def entries(self) -> dict[str, Entry]:
        async with self.staffed.hotel.house.store.database.connect() as conn:
            rows, _ = await entries.page(conn, TrailFilter(), 400)
        return {row.id: row for row in rows}

    async def account(self) -> tuple[str, str]:
        """A new account: its id and its address."""
        self.number += 1
        email = f"guest{self.number}@example.com"
        return await self.staffed.person(email), email

    async def key(self, user: str) -> str:
        """A new key of theirs: its id."""
        store = self.staffed.hotel.house.store
        async with store.database.transaction() as conn:
            made = await management.create_key(
                conn,
                store.secrets_file,
                user,
                management.KeyWish(),
                now=1,
                entropy=secrets.token_bytes,
                keep=False,
            )
        return made.id

    async def state(self, id: str) -> tuple[object, ...]:
        """What of the rows of this id is there, without times."""
        async with self.staffed.hotel.house.store.database.connect() as conn:
            user = await accounts.user_by_id(conn, id)
            key = (await conn.execute(select(api_keys).where(api_keys.c.user_id == id))).first()
            plan = (await conn.execute(select(plans).where(plans.c.id == id))).first()
            said = (await conn.execute(select(upstream_state.c.state, upstream_state.c.until))).all()
        told: tuple[object, ...] = ()
        if user is not None:
            times = (user.verified_at, user.disabled_at, user.leaving_at)
            told = (user.plan_id, user.role, *(at is None for at in times))
        shown = () if key is None else (key.daily_requests, key.revoked_at is None)
        return told, shown, () if plan is None else tuple(plan[1:6]), tuple(map(tuple, said))


Step = Callable[[Ways, str, str], Awaitable[None]]
"""Does it by one way, to the account of this id and address."""


def _keyed(step: Callable[[Ways, str, str, str], Awaitable[None]]) -> Step:
    async def run(ways: Ways, id: str, email: str) -> None:
        await step(ways, id, email, await ways.key(id))

    return run


def _incident(step: Callable[[Ways, str], Awaitable[None]]) -> Step:
    async def run(ways: Ways, _id: str, _email: str) -> None:
        await step(ways, ways.incident)

    return run


def _banner(step: Callable[[Ways, str], Awaitable[None]]) -> Step:
    async def run(ways: Ways, _id: str, _email: str) -> None:
        await step(ways, ways.banner)

    return run


CASES: dict[str, tuple[Step | None, Step | None, Step | None]] = {
    "user_plan": (
        lambda w, id, _: w.page(f"/admin/users/{id}/plan", plan="pro"),
        lambda w, _, email: w.command("user", "set", "--email", email, "--plan", "pro"),
        lambda w, id, _: w.call(f"POST /users/{id}/plan", {"plan": "pro"}),
    ),
    "user_disable": (
        lambda w, id, _: w.page(f"/admin/users/{id}/disable"),
        lambda w, _, email: w.command("user", "set", "--email", email, "--disabled"),
        lambda w, id, _: w.call(f"POST /users/{id}/disable"),
    ),
    "user_delete": (
        lambda w, id, email: w.page(f"/admin/users/{id}/delete", typed=email),
        lambda w, _, email: w.command("user", "delete", "--email", email, "--yes"),
        lambda w, id, _: w.call(f"POST /users/{id}/delete"),
    ),
    "user_keep": (
        lambda w, id, _: w.page(f"/admin/users/{id}/keep"),
        lambda w, _, email: w.command("user", "keep", "--email", email),
        lambda w, id, _: w.call(f"POST /users/{id}/keep"),
    ),
    "user_sign_out": (
        lambda w, id, _: w.page(f"/admin/users/{id}/sessions"),
        lambda w, _, email: w.command("user", "sign-out", "--email", email),
        lambda w, id, _: w.call(f"POST /users/{id}/sign-out"),
    ),
    "key_revoke": (
        _keyed(lambda w, id, _, key: w.page(f"/admin/users/{id}/keys/{key}/revoke")),
        _keyed(lambda w, _, email, key: w.command("key", "revoke", "--email", email, "--id", key)),
        _keyed(lambda w, _id, _, key: w.call(f"POST /keys/{key}/revoke")),
    ),
    "key_limit": (
        _keyed(lambda w, id, _, key: w.page(f"/admin/users/{id}/keys/{key}", daily="7")),
        _keyed(lambda w, _, email, key: w.command("key", "limit", "--email", email, "--id", key, "--daily", "7")),
        _keyed(lambda w, _id, _, key: w.call(f"POST /keys/{key}/limits", {"daily_requests": 7})),
    ),
    "key_roll": (
        _keyed(lambda w, id, _, key: w.page(f"/admin/users/{id}/keys/{key}/roll", grace="0")),
        _keyed(lambda w, _, email, key: w.command("key", "roll", "--email", email, "--id", key)),
        _keyed(lambda w, _id, _, key: w.call(f"POST /keys/{key}/roll")),
    ),
    "key_create": (
        lambda w, id, _: w.page(f"/admin/users/{id}/keys/new"),
        lambda w, _, email: w.command("key", "create", "--email", email),
        lambda w, id, _: w.call(f"POST /users/{id}/keys"),
    ),
    "staff_set": (
        lambda w, _, email: w.page("/admin/staff/set", email=email, role="viewer", current=PASSWORD),
        lambda w, _, email: w.command("staff", "set", "--email", email, "--role", "viewer"),
        lambda w, id, _: w.call(f"PUT /staff/{id}", {"role": "viewer"}),
    ),
    "group_set": (
        lambda w, id, _: w.page("/admin/staff/group", group=id, role="support"),
        lambda w, id, _: w.command("staff", "group", id, "--role", "support"),
        lambda w, id, _: w.call("POST /staff/groups", {"group": id, "role": "support"}),
    ),
    "announce": (
        lambda w, _id, _: w.page("/admin/notices/announcements", text="New", days="3"),
        lambda w, _id, _: w.command("notice", "announce", "New", "--days", "3"),
        lambda w, _id, _: w.call("POST /announcements", {"text": "New", "days": 3}),
    ),
    "announcement_withdraw": (
        _banner(lambda w, id: w.page(f"/admin/notices/announcements/{id}/withdraw")),
        _banner(lambda w, id: w.command("notice", "withdraw", id)),
        _banner(lambda w, id: w.call(f"POST /announcements/{id}/withdraw")),
    ),
    "incident_open": (
        lambda w, _id, _: w.page("/admin/notices/incidents", title="Slow", text="We look.", state="investigating"),
        lambda w, _id, _: w.command("notice", "open", "Slow", "--text", "We look."),
        lambda w, _id, _: w.call("POST /incidents", {"title": "Slow", "text": "We look."}),
    ),
    "incident_update": (
        _incident(lambda w, id: w.page(f"/admin/notices/incidents/{id}", state="resolved", text="Over.")),
        _incident(lambda w, id: w.command("notice", "update", id, "--state", "resolved", "--text", "Over.")),
        _incident(lambda w, id: w.call(f"POST /incidents/{id}", {"state": "resolved", "text": "Over."})),
    ),
    "webhook_add": (
        lambda w, id, _: w.page("/admin/notifications/webhooks", name=id, url="https://hooks.example.com/x", shape="slack"),
        lambda w, id, _: w.command("webhook", "add", id, "https://hooks.example.com/x", "--shape", "slack"),
        lambda w, id, _: w.call("POST /webhooks", {"name": id, "url": "https://hooks.example.com/x", "shape": "slack"}),
    ),
    "rule_add": (
        lambda w, _id, email: w.page(
            "/admin/notifications/rules", event="mail", least="warning", target="mail", recipient=email, when="digest", quiet=""
        ),
        lambda w, _id, email: w.command("webhook", "add-rule", "mail", "--mail", email, "--least", "warning", "--digest"),
        lambda w, _id, email: w.call(
            "POST /notification-rules", {"event": "mail", "recipient": email, "least": "warning", "at_once": False}
        ),
    ),
    "export_add": (
        lambda w, id, _: w.page("/admin/exports/add", name=id.lower()[:40].replace("_", "-"), kind="file", url=""),
        lambda w, id, _: w.command("export", "add", id.lower()[:40].replace("_", "-"), "--kind", "file"),
        lambda w, id, _: w.call("POST /exports", {"name": id.lower()[:40].replace("_", "-"), "kind": "file"}),
    ),
    "upstream_drain": (
        lambda w, _id, _: w.page(SWITCH, state="drain", reason="moving"),
        lambda w, _id, _: w.command("upstream", "drain", SERVED_BY_NOBODY, "--why", "moving"),
        lambda w, _id, _: w.call(f"POST /providers/{SERVED_BY_NOBODY}/drain", {"why": "moving"}),
    ),
    "upstream_enable": (
        lambda w, _id, _: w.page(SWITCH, state="on"),
        lambda w, _id, _: w.command("upstream", "enable", SERVED_BY_NOBODY),
        lambda w, _id, _: w.call(f"POST /providers/{SERVED_BY_NOBODY}/enable"),
    ),
}  # fmt: skip
"""How each operation is done by a page, by a command and by a program; None where the table has no such way."""


@pytest.fixture
async def ways(tmp_path: Path) -> AsyncGenerator[Ways]:
    async with open_hotel(tmp_path, admin_api_per_minute=10_000) as hotel:
        staffed = Staffed(hotel)
        owner = await member(hotel, "owner", "owner@example.com")
        found = Ways(staffed, owner, await staffed.caller())
        yield found
        await found.api.http.aclose()


def _row(name: str) -> ParityRow:
    return next(row for row in PARITY if row.name == name)


def _left(entry: Entry) -> tuple[object, ...]:
    """What an entry says of a change, but for who, when and to which thing."""
    fields = sorted(name for name, _, _ in entry.changed)
    values = [
        new
        for name, _, new in entry.changed
        if name in {"plan", "role", "disabled", "state", "daily_requests"}
    ]
    return entry.action, entry.object_kind, entry.result, fields, values, entry.reason


async def test_case_40_every_way_leaves_the_same_rows_and_the_same_entry(ways: Ways) -> None:
    admin = ways.staffed.hotel.house.service
    assert admin is not None
    for name, steps in CASES.items():
        row = _row(name)
        assert [step is not None for step in steps] == [
            bool(it) for it in (row.page, row.command, row.route)
        ], name
        found: list[tuple[object, ...]] = []
        for step in steps:
            if step is None:
                continue
            id, email = await ways.account()
            if name == "upstream_drain":
                await ways.call(f"POST /providers/{SERVED_BY_NOBODY}/enable")
            if name == "upstream_enable":
                await ways.call(f"POST /providers/{SERVED_BY_NOBODY}/drain", {})
            if name == "incident_update":
                opened = await ways.api("POST /incidents", {"title": "Slow", "text": "We look."})
                ways.incident = opened.json()["id"]
            if name == "announcement_withdraw":
                ways.banner = (await ways.api("POST /announcements", {"text": "Soon", "days": 300})).json()[
                    "id"
                ]
            before = set(await ways.entries())
            await step(ways, id, email)
            made = [entry for key, entry in (await ways.entries()).items() if key not in before]
            assert len(made) == 1, (name, made)
            found.append((_left(made[0]), await ways.state(id)))
        assert found
        assert all(each == found[0] for each in found), (name, found)


def pages_of(site: AdminSite) -> dict[str, str]:
    """Every page with the permission that it wants, as the table names them."""
    return {f"{method} {page.path}": page.permission for page in site.pages() for method in page.methods}


async def test_every_page_and_every_route_is_in_the_table_with_one_permission(ways: Ways) -> None:
    process = ways.staffed.hotel.house.service
    assert process is not None
    assert process.site_process is not None
    pages = pages_of(process.site_process.admin_site)
    for row in PARITY:
        if row.page:
            assert pages[row.page] == row.permission, row.name
    shown = {row.page.partition(" ")[2] for row in PARITY if row.page}
    assert {page.partition(" ")[2] for page in pages} == shown
    assert set(ways.staffed.api.operations) == {row.name for row in PARITY if row.route}


async def test_users_are_made_by_every_way_alike(ways: Ways) -> None:
    await ways.page("/admin/users/new", email="three@example.com", plan="pro", verified="yes")
    await ways.command("user", "create", "--email", "one@example.com", "--plan", "pro", "--verified")
    made = await ways.api("POST /users", {"email": "two@example.com", "plan": "pro", "verified": True})
    states: list[tuple[object, ...]] = []
    async with ways.staffed.hotel.house.store.database.connect() as conn:
        ids = list(
            await conn.scalars(
                select(users.c.id).where(
                    users.c.email.in_(("one@example.com", "two@example.com", "three@example.com"))
                )
            )
        )
    states = [await ways.state(id) for id in ids]
    assert states[0] == states[1] == states[2]
    assert made.json()["key"]["key"].startswith("sk-ps-")
    taken = await ways.api("POST /users", {"email": "two@example.com"})
    assert (taken.status_code, taken.json()["field"]) == (400, "email")
