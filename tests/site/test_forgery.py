"""Forms that somebody else sends, and ids that are somebody else's: every route of the router, none forgotten."""

import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pyotp.totp import TOTP
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.accounts.sessions import form_token
from penstock.operations import maintenance
from penstock.store.sql.schema import metadata, users
from tests.site.page_reader import PASSWORD, Hotel, Reader, open_hotel
from tests.site.test_dashboard import on_lab, running
from tests.site.test_odd_values import QUERIES
from tests.site.test_roles import ROUTES, routes
from tests.site.test_sign_in import switch_on

Rows = dict[str, list[tuple[Any, ...]]]
FIELDS = ("id", "key", "session", "request", "account", "user")
"""Names under which a form may hold an id."""


@pytest.fixture
async def hotel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Hotel]:
    """One in which nothing is written but by requests: maintenance and what tells the staff do not come to their turn."""
    generous = dict.fromkeys(("sign_in_tries", "sign_in_tries_network", "sign_ups_network"), 10_000)
    monkeypatch.setattr(maintenance, "_FIRST_SLOW_SECONDS", 3600.0)
    async with open_hotel(tmp_path, notify_poll=3600.0, export_poll=3600.0, **generous) as opened:
        yield opened


async def kept(conn: AsyncConnection) -> Rows:
    """Everything in the database."""
    found: Rows = {}
    for table in metadata.sorted_tables:
        found[table.name] = sorted((tuple(row) for row in await conn.execute(select(table))), key=repr)
    return found


async def everything(hotel: Hotel) -> Rows:
    async with hotel.house.store.database.connect() as conn:
        return await kept(conn)


# ---- forms of others


class Victim:
    """Somebody with a browser, who is about to send the form of one route, and what it would say."""

    def __init__(self, reader: Reader, path: str, fields: dict[str, str]) -> None:
        self.reader = reader
        self.path = path
        self.fields = fields


async def victim_of(hotel: Hotel, path: str, number: int) -> Victim:
    """Everything that the form of this route needs: its fields are right, and a code was sent where it wants one."""
    reader, address = hotel.reader(), f"ann{number}@example.com"
    fields = {
        "email": f"new{number}@example.com",
        "password": PASSWORD,
        "current": PASSWORD,
        "name": "forged",
        "plan": "ten",
        "grace": "0",
        "id": "others",
    }
    hotel.house.clock.now += 3600
    if path.startswith("/verify"):
        await reader.sign_up(address)
        fields["code"] = hotel.mailbox.code(address)
    elif path.startswith(("/reset", "/signin/code")):
        owner = await hotel.reader().join(address)
        hotel.house.clock.now += 61
        if path == "/signin/code":
            secret, _ = await switch_on(owner, hotel)
            hotel.house.clock.now += 30
            await reader.sign_in(address)
            fields["code"] = TOTP(secret).at(int(hotel.house.clock.now))
        else:
            await reader.post("/forgot", email=address)
            await hotel.posted()
            fields["code"] = hotel.mailbox.code(address)
    elif path in {"/signin", "/signup", "/forgot"}:
        await hotel.reader().join(address)
        await reader.get("/signin")
        if path != "/signup":
            fields["email"] = address
    else:
        await reader.join(address)
        hotel.house.clock.now += 61
        await reader.post("/settings/email", current=PASSWORD, email=fields["email"])
        await hotel.posted()
        fields["code"] = hotel.mailbox.code(fields["email"])
        hotel.house.clock.now += 61
        if path == "/settings/stay":
            await reader.post("/settings/leave", current=PASSWORD)
    await hotel.posted()
    found = re.findall(r"/keys/(key_\w+)/show", (await reader.get("/keys")).text)
    return Victim(reader, path.replace("{id}", found[0] if found else "x"), fields)


async def forged(victim: Victim, other: Reader) -> dict[str, httpx2.Response]:
    """The answer to each way of sending the form without the page."""
    reader, path, fields = victim.reader, victim.path, victim.fields
    right, wrong = form_token(reader.token), form_token(other.token)
    here = {"sec-fetch-site": "same-origin"}

    async def send(token: str | None, headers: dict[str, str], query: str = "") -> httpx2.Response:
        data = fields if token is None else {**fields, "form_token": token}
        return await reader.http.post(path + query, data=data, headers=headers)

    return {
        "no token": await send(None, here),
        "an empty token": await send("", here),
        "a token of another browser": await send(wrong, here),
        "another browser's token in the header": await send(None, {**here, "x-form-token": wrong}),
        "the cookie itself": await send(reader.token, here),
        "the token in the address": await send(None, here, f"?form_token={right}"),
        "another site": await send(right, {"sec-fetch-site": "cross-site"}),
        "a neighbour of the site": await send(right, {"sec-fetch-site": "same-site"}),
        "another origin": await send(right, {"origin": "https://evil.example"}),
        "another port": await send(right, {"origin": "http://127.0.0.1:1"}),
        "this origin and more": await send(right, {"origin": f"{reader.hotel.origin}.evil.example"}),
    }


async def test_no_form_is_taken_that_no_page_of_ours_has_sent(hotel: Hotel) -> None:
    other = await hotel.reader().join("other@example.com")
    posts = [path for path, methods in routes(hotel).items() if "POST" in methods]
    assert len(posts) > 20
    for number, path in enumerate(posts):
        victim = await victim_of(hotel, path, number)
        before = await everything(hotel)
        for way, answer in (await forged(victim, other)).items():
            assert answer.status_code == 403, (path, way, answer.status_code)
            assert "set-cookie" not in answer.headers, (path, way)
        assert await everything(hotel) == before, path
        async with httpx2.AsyncClient(base_url=hotel.origin, trust_env=False) as bare:
            data = {**victim.fields, "form_token": form_token(victim.reader.token)}
            assert (await bare.post(victim.path, data=data)).status_code in {303, 401, 403}, path
        assert await everything(hotel) == before, path
        if path.endswith("/resend"):
            hotel.house.clock.now += 61
        honest = await victim.reader.post(victim.path, None, **victim.fields)
        assert honest.status_code in {200, 303, 400, 410}, (path, "its own browser's form is read")


# ---- ids of others


def plain(answer: httpx2.Response, id: str) -> tuple[int, dict[str, str], list[str]]:
    """What an answer tells, but for what is another each time, and the order of what was made in one moment."""
    text = answer.text.replace(id, "ID")
    text = re.sub(
        r"sk-ps-[\w.]+|(key|ses|usr|aud|otc|out)_\w+|Playground \S+|\"[0-9a-f]{32}\"|bob\d@|127.0.0.1:\d+",
        "X",
        text,
    )
    headers = {name: value.replace(id, "ID") for name, value in answer.headers.items()}
    for name in ("date", "content-length", "set-cookie"):
        headers.pop(name, None)
    lines = re.split(r"\n|(?=<tr>)|</?tbody>", text)
    # in a list of JSON whatever is the last has no comma
    return answer.status_code, headers, sorted(line.removesuffix(",") for line in lines)


def unknown(id: str) -> str:
    """An id of the same form that nobody has."""
    kind, _, rest = id.partition("_")
    return f"{kind}_{rest[::-1]}"


async def theirs(hotel: Hotel, user_id: str) -> tuple[set[str], Rows]:
    """The ids that belong to an account, and all that is kept of it."""
    ids, rows = set[str](), Rows()
    async with hotel.house.store.database.connect() as conn:
        for table in metadata.sorted_tables:
            owner = users.c.id if table is users else table.c.get("user_id")
            if owner is None:
                continue
            # when a key was last used is written some time after it was
            columns = [column for column in table.c if column.name != "last_used_at"]
            found = list(await conn.execute(select(*columns).where(owner == user_id)))
            rows[table.name] = sorted((tuple(row) for row in found), key=repr)
            if "id" in table.c:
                ids |= {row.id for row in found}
    return ids, rows


async def test_an_id_of_another_account_is_answered_as_one_that_there_is_not(hotel: Hotel) -> None:
    """Two accounts that are alike do the same, one with the ids of a third, one with ids that nobody has."""
    ann = await hotel.reader().join("ann@example.com")
    thief, guesser = (
        await hotel.reader().join("bob1@example.com"),
        await hotel.reader().join("bob2@example.com"),
    )
    user = await on_lab(hotel, ann)
    assert (await hotel.house.ask("chat", "chat-plain", user)).status == 200
    hotel.house.visits.clear()
    caller = await hotel.house.begin("chat", "chat-hang", user)
    live = await running(hotel, ann)
    await hotel.house._booked()
    ids, before = await theirs(hotel, user.id)
    assert {id.partition("_")[0] for id in ids} >= {"key", "req", "ses", "usr"}, ids
    assert live in ids
    for id in sorted(ids):
        none = unknown(id)
        assert none not in ids
        for path, methods in routes(hotel).items():
            if ROUTES[path] != "account":
                continue
            assert "{" not in path.replace("{id}", ""), f"{path}: which ids does it take?"
            stolen = await told(thief, path, methods, id, ids)
            guessed = await told(guesser, path, methods, none, ids)
            hotel.house.clock.now += 3
            assert stolen == guessed, (path, id)
            assert "{id}" not in path or {status for status, _, _ in stolen} <= {400, 404}, (path, id)
    assert (await theirs(hotel, user.id))[1] == before
    assert hotel.house.held(user) == 1, "the request that ran goes on"
    caller.leave()
    assert await ann.is_in()


async def told(
    reader: Reader, path: str, methods: set[str], id: str, hidden: set[str]
) -> list[tuple[int, dict[str, str], list[str]]]:
    """What is answered where this id is in the address, in the query, and in every field of the form."""
    clock = reader.hotel.house.clock
    asked, found, start = path.replace("{id}", id), [], clock.now
    if "GET" in methods:
        found.append(await reader.get(asked, params=dict.fromkeys(QUERIES, id)))
    if "POST" in methods:
        fields = dict.fromkeys(FIELDS, id)
        clock.now += 1  # what pages list by its time has an order
        found.append(await reader.post(asked, None, **fields))
        clock.now += 1
        found.append(await reader.post(asked, None, **fields, grace="0", password=PASSWORD))
    clock.now = start
    for answer in found:
        assert not [each for each in hidden if each != id and each in answer.text], path
    return [plain(answer, id) for answer in found]
