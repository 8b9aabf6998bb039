"""The admin API: who may do what, once for each key, in pages, with errors that say whose fault they are."""

import asyncio
import logging
import random
import re
import secrets
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from jsonschema import Draft202012Validator
from sqlalchemy import func, insert, select, update

from penstock.domain.accounts import accounts
from penstock.domain.staff import membership, tokens
from penstock.domain.staff.roles import PERMISSIONS, ROLES
from penstock.domain.staff.tokens import SCOPES, BadToken, TokenWish, scopes_in
from penstock.domain.trail.entries import SYSTEM
from penstock.site.admin_api.access import AdminRateReached, AdminRates
from penstock.site.admin_api.dispatch import AdminApi
from penstock.site.admin_api.parity import BASE, ParityRow
from penstock.store.sql.schema import admin_tokens, idempotency, trail
from tests.site.page_reader import PLAIN, Hotel
from tests.site.staff import member
from tests.site.test_public import CONTRACT, resolved


class Caller:
    """A program with a token."""

    def __init__(self, hotel: Hotel, token: str) -> None:
        self.token = token
        self.http = httpx2.AsyncClient(
            base_url=hotel.origin,
            headers={"authorization": f"Bearer {token}"} if token else {},
            verify=PLAIN,
            trust_env=False,
            timeout=120,
        )

    async def __call__(
        self, route: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        """``call("POST /users/usr_x/disable", {...})``."""
        method, _, path = route.partition(" ")
        more: dict[str, Any] = {} if body is None else {"json": body}
        return await self.http.request(method, f"{BASE}{path}", headers=headers or {}, **more)


class Staffed:
    """A hotel with an owner, and programs that act for them."""

    def __init__(self, hotel: Hotel) -> None:
        self.hotel = hotel
        self.callers: list[Caller] = []

    @property
    def api(self) -> AdminApi:
        assert self.hotel.house.service is not None
        assert self.hotel.house.service.site_process is not None
        return self.hotel.house.service.site_process.admin_api

    async def person(self, email: str, role: str = "") -> str:
        """The id of a new account."""
        async with self.hotel.house.store.database.transaction() as conn:
            id = accounts.new_user_id(secrets.token_bytes(16))
            user = await accounts.create_user(
                conn, email, plan="free", admin=False, verified=True, now=1, id=id
            )
            if role:
                await membership.give(conn, user, role, SYSTEM, now=1, entropy=secrets.token_bytes)
        return id

    async def caller(
        self, role: str = "owner", *, scopes: tuple[str, ...] = ("all",), maker: str = "owner@example.com"
    ) -> Caller:
        """A program with a new token of the maker."""
        store = self.hotel.house.store
        async with store.database.transaction() as conn:
            made = await tokens.make_token(
                conn,
                store.secrets_file,
                await accounts.user_by_email(conn, maker),
                TokenWish(f"{role} {len(self.callers)}", role, scopes),
                SYSTEM,
                longest_days=365,
                now=int(self.hotel.house.clock.now * 1000),
                entropy=secrets.token_bytes,
            )
        caller = Caller(self.hotel, made.token)
        self.callers.append(caller)
        return caller

    async def entries(self, **chosen: str) -> list[dict[str, Any]]:
        """The trail, as an owner reads it."""
        call = self.callers[0]
        query = "&".join(f"{name}={value}" for name, value in chosen.items())
        return (await call(f"GET /trail?{query}")).json()["data"]


@pytest.fixture
async def staffed(hotel: Hotel) -> AsyncGenerator[Staffed]:
    found = Staffed(hotel)
    await found.person("owner@example.com", "owner")
    await found.caller()
    try:
        yield found
    finally:
        for caller in found.callers:
            await caller.http.aclose()


async def test_a_body_that_is_cut_off_is_no_fault_of_ours(
    staffed: Staffed, caplog: pytest.LogCaptureFixture
) -> None:
    (caller,) = staffed.callers
    head = f"POST {BASE}/users HTTP/1.1\r\nauthorization: Bearer {caller.token}\r\n"
    await staffed.hotel.cut_off(f"{head}content-type: application/json\r\n")
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []
    assert len((await caller("GET /users")).json()["data"]) == 1


# ---- who may


HOSTILE: tuple[object, ...] = (
    "", "\0", "💥", "x" * 300, "../../etc/passwd", "'; DROP TABLE users; --", "ann@example.com", "owner", "free", "*",
    "2026-11-25", "[[plan]]\nid = 1", -1, 0, 1, 1 << 31, 1 << 53, 1 << 63, 1.5, True, None, [], ["*"], [None], {}, {"a": 1},
)  # fmt: skip
"""Values that somebody's program may send in any field."""


def _filled(row: ParityRow, ids: dict[str, str]) -> str:
    """The route with ids of things that are there."""
    path = row.route
    for name in re.findall(r"\{(\w+)(?::path)?\}", path):
        kind = name if name == "key" else path.split(" ")[1].split("/")[1]
        path = re.sub(r"\{" + name + r"(:path)?\}", ids.get(kind, "absent"), path)
    return path


async def test_case_3_every_role_gets_what_the_table_says_whatever_it_sends(staffed: Staffed) -> None:
    """Made from the router: no operation is forgotten, none answers with a fault of ours, none skips authorisation."""
    draw = random.Random(15)
    ann = await staffed.person("ann@example.com")
    ids = {"users": ann, "plans": "free", "models": "claude-haiku-4.5", "providers": "absent", "staff": ann}
    refused = 0
    for role in (*ROLES, ""):
        scopes = ("all",) if role else ("jobs:read",)
        call = await staffed.caller(role or "owner", scopes=scopes)
        for row in staffed.api.rows:
            bound = staffed.api.operations[row.name]
            fields = bound.body.__struct_fields__
            may = row.scope in (None, "jobs:read") if not role else row.permission in PERMISSIONS[role]  # type: ignore[index]
            bodies: list[object] = [{name: draw.choice(HOSTILE) for name in fields} if fields else None]
            if may and fields:
                bodies.append({})
            for body in bodies:
                route = _filled(row, ids) if draw.random() < 0.7 else _filled(row, {})
                query = {name: draw.choice(HOSTILE) for name in bound.query.__struct_fields__}
                if query and draw.random() < 0.7:
                    route += "?" + urlencode(query)
                answer = await call(route, body)
                told = (role, row.name, route, body, answer.status_code, answer.text[:200])
                assert answer.status_code < 500, told
                assert (answer.status_code == 403) == (not may), told
                assert "no-store" in answer.headers["cache-control"], told
                refused += answer.status_code == 403
                if answer.status_code != 200:
                    assert set(answer.json()) == {"error", "code", "fault", "field", "request_id"}, told
                    assert answer.json()["fault"] == "caller", told
    async with staffed.hotel.house.store.database.connect() as conn:
        entries = await conn.scalar(
            select(func.count()).select_from(trail).where(trail.c.action == "page_refused")
        )
    assert entries == refused
    assert (await staffed.callers[0]("GET /trail/verify")).json()["broken"] is None


async def test_nobody_comes_in_by_anything_but_a_token(staffed: Staffed) -> None:
    owner = await member(staffed.hotel, "owner", "boss@example.com")
    key = await owner.key()
    good = staffed.callers[0].token
    wrong = [
        "",
        "Bearer",
        f"Bearer {key}",
        f"Basic {good}",
        f"Bearer {good[:-1]}{'1' if good[-1] == '0' else '0'}",
        f"Bearer pa-ps-{'0' * 49}",
    ]
    for row in staffed.api.rows:
        for text in wrong if row.name == "user_list" else wrong[:1]:
            headers = {"authorization": text} if text else {}
            method, _, path = row.route.partition(" ")
            answer = await owner.http.request(
                method, f"{BASE}{_filled(row, {}).partition(' ')[2]}", headers=headers
            )
            assert answer.status_code == 401, (row.name, text, path)
            assert answer.json()["code"] in {"missing_token", "invalid_token"}
            assert answer.headers["www-authenticate"] == "Bearer"
    assert (await staffed.callers[0]("GET /nothing")).json()["code"] == "not_found"
    assert (await staffed.callers[0]("DELETE /users")).status_code == 405
    large = await staffed.callers[0]("POST /search", {"q": "x" * (1 << 20)})
    assert (large.status_code, large.json()["code"]) == (413, "request_too_large")


def test_a_scope_that_writes_reads_and_words_stand_for_several() -> None:
    assert set(scopes_in(("read",))) == {scope for scope in SCOPES if scope.endswith(":read")}
    assert scopes_in(("all",)) == SCOPES
    for words in ((), ("users",), ("users:write", "money:read")):
        with pytest.raises(BadToken):
            scopes_in(words)


def test_a_token_may_send_so_many_requests_a_minute() -> None:
    now = [60.0]
    rates = AdminRates(2, lambda: now[0])
    rates.count("a")
    rates.count("a")
    rates.count("b")
    with pytest.raises(AdminRateReached) as refused:
        rates.count("a")
    assert refused.value.retry_after == 60
    now[0] = 120.0
    rates.count("a")


async def test_a_token_never_does_more_than_its_maker_may_now(staffed: Staffed) -> None:
    owner = staffed.callers[0]
    bob, ann = await staffed.person("bob@example.com", "admin"), await staffed.person("ann@example.com")
    with pytest.raises(BadToken, match="cannot have the role owner"):
        await staffed.caller("owner", maker="bob@example.com")
    with pytest.raises(BadToken, match="not of the staff"):
        await staffed.caller("viewer", maker="ann@example.com")
    call = await staffed.caller("admin", maker="bob@example.com")
    disable = f"POST /users/{ann}/disable"
    assert (await call(disable, {"reason": "spam"})).json()["disabled_at"] is not None
    (entry,) = await staffed.entries(object_id=ann, action="user_changed")
    assert (entry["actor_kind"], entry["on_behalf_of"], entry["reason"]) == ("token", bob, "spam")
    assert entry["request_id"].startswith("adm_")

    assert (await owner(f"PUT /staff/{bob}", {"role": "viewer"})).json()["role"] == "viewer"
    lower = await call(f"POST /users/{ann}/enable")
    assert (lower.status_code, lower.json()["code"]) == (403, "role_not_allowed")
    assert (await call(f"GET /users/{ann}")).status_code == 200
    assert (await owner(f"PUT /staff/{bob}", {"role": None})).json()["role"] == ""
    assert (await call(f"GET /users/{ann}")).json()["code"] == "invalid_token"
    last = await owner(f"PUT /staff/{(await owner('GET /token')).json()['maker_id']}", {"role": "admin"})
    assert (last.status_code, last.json()["code"]) == (409, "last_owner"), "case 4, by the API"


async def test_a_token_ends_by_time_by_hand_and_by_address(staffed: Staffed) -> None:
    owner, clock = staffed.callers[0], staffed.hotel.house.clock
    call = await staffed.caller("viewer", scopes=("users:read",))
    await owner("GET /token")
    assert (await owner("GET /token")).json()["last_used_at"] == int(clock.now * 1000)
    assert (await call("GET /users")).status_code == 200
    assert (await owner("POST /tokens/viewer%201/revoke", {})).json()["revoked_at"] is not None
    gone = await call("GET /users")
    assert (gone.status_code, gone.json()["error"]) == (401, "This token was revoked. Make a new one.")
    assert (await owner("POST /tokens/viewer%201/revoke", {})).status_code == 404

    store = staffed.hotel.house.store
    async with store.database.transaction() as conn:
        await conn.execute(update(admin_tokens).values(addresses='["203.0.113.0/24"]'))
    refused = await owner("GET /token")
    assert (refused.status_code, refused.json()["code"]) == (403, "address_not_allowed")
    assert (await owner("GET /token", None, {"x-forwarded-for": "203.0.113.9"})).status_code == 200
    async with store.database.transaction() as conn:
        await conn.execute(update(admin_tokens).values(addresses=None, expires_at=int(clock.now * 1000)))
    assert "expired" in (await owner("GET /token")).json()["error"]
    dump = b"".join(file.read_bytes() for file in store.settings.data.glob("penstock.db*"))
    assert all(caller.token[6:].encode() not in dump for caller in staffed.callers)


# ---- once for each key


async def test_a_write_is_done_once_for_each_key_and_answered_alike(staffed: Staffed) -> None:
    call = staffed.callers[0]
    ann = await staffed.person("ann@example.com")
    route, once = f"POST /users/{ann}/keys", {"idempotency-key": "order-1"}
    answers = await asyncio.gather(*(call(route, {"name": "laptop"}, once) for _ in range(5)))
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["key"].startswith("sk-ps-")
    assert len((await call(f"GET /users/{ann}/keys")).json()["data"]) == 1
    other = await call(route, {"name": "phone"}, once)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    again = await staffed.caller("owner")
    assert (await again(route, {"name": "phone"}, once)).status_code == 200, "a key is its token's alone"

    wrong = [
        await call(f"POST /users/{ann}/plan", {"plan": "gold"}, {"idempotency-key": "2"}) for _ in range(2)
    ]
    assert (wrong[0].status_code, wrong[0].json()["field"], wrong[0].text) == (400, "plan", wrong[1].text)
    async with staffed.hotel.house.store.database.connect() as conn:
        kept = list(await conn.execute(select(idempotency.c.status, idempotency.c.sealed)))
    assert sorted(row.status for row in kept) == [200, 200, 400]
    assert all(b"sk-ps-" not in row.sealed for row in kept)

    bad = await call(route, {}, {"idempotency-key": "x" * 256})
    assert (bad.status_code, bad.json()["field"]) == (400, "idempotency-key")
    claimed = {"idempotency-key": "3"}
    async with staffed.hotel.house.store.database.transaction() as conn:
        row = (await conn.execute(select(idempotency).where(idempotency.c.key == "order-1"))).first()
        assert row is not None
        await conn.execute(
            insert(idempotency).values(**{**row._mapping, "key": "3", "status": None, "sealed": None})
        )
    assert (await call(route, {"name": "laptop"}, claimed)).json()["code"] == "still_running"
    staffed.hotel.house.clock.now += 86_401
    assert (await call(route, {"name": "tablet"}, claimed)).status_code == 200, (
        "after its time the key is free"
    )


async def test_a_dry_run_answers_and_changes_nothing_and_a_revision_can_be_asked_for(
    staffed: Staffed,
) -> None:
    call = staffed.callers[0]
    ann = await staffed.person("ann@example.com")
    tried = await call(f"POST /users/{ann}/disable?dry_run=1", {})
    assert tried.json()["disabled_at"] is not None
    assert (await call(f"GET /users/{ann}")).json()["disabled_at"] is None
    assert await staffed.entries(object_id=ann) == []
    assert (await call("POST /providers/sim-chat/test?dry_run=1", {})).json()["field"] == "dry_run"

    revision = (await call("GET /plans")).headers["etag"]
    plan = {"daily_requests": 7, "concurrent_requests": 2, "models": ["claude-haiku-4.5"], "weight": 3}
    made = await call("PUT /plans/team", plan, {"if-match": revision})
    assert [change["action"] for change in made.json()["changes"]] == ["added"]
    late = await call("PUT /plans/team", {**plan, "weight": 4}, {"if-match": revision})
    assert (late.status_code, late.json()["code"]) == (412, "stale_revision")
    assert (await call("GET /plans/team")).json()["weight"] == 3
    unbounded = await call("PUT /plans/team", {**plan, "models": ["nothing"]})
    assert (unbounded.status_code, unbounded.json()["code"]) == (422, "invalid_catalog")


async def test_what_a_file_manages_neither_the_api_nor_a_page_changes(staffed: Staffed) -> None:
    call = staffed.callers[0]
    text = '[[plan]]\nid = "free"\nname = "Free"\ndaily_requests = 10\nconcurrent_requests = 1\nmodels = []\n'
    wanted = {"toml": text, "manager": "prod"}
    assert [it["action"] for it in (await call("POST /catalog/diff", wanted)).json()["changes"]] == [
        "updated",
        "managed",
    ]
    assert len((await call("POST /catalog/apply", wanted)).json()["changes"]) == 2
    assert (await call("POST /catalog/apply", wanted)).json()["changes"] == []
    put = {"daily_requests": 7, "concurrent_requests": 2, "models": []}
    refused = await call("PUT /plans/free", put)
    assert (refused.status_code, refused.json()["code"]) == (409, "managed_by_file")
    assert "penstock catalog release --of prod" in refused.json()["error"]
    assert (await call("GET /catalog")).json()["managed"] == {"plan free": "prod"}

    owner = await member(staffed.hotel, "owner", "boss@example.com")
    assert "penstock catalog apply FILE --as prod" in (await owner.get("/admin/plans/free")).text
    edited = await owner.post("/admin/catalog/preview", text=text.replace("10", "20"))
    assert (edited.status_code, "is managed by the file" in edited.text) == (422, True)
    released = await call("POST /catalog/release", {"manager": "prod"})
    assert [it["action"] for it in released.json()["changes"]] == ["released"]
    assert (await call("PUT /plans/free", put)).status_code == 200


async def test_lists_come_in_pages_that_leave_nothing_out(staffed: Staffed) -> None:
    call = staffed.callers[0]
    for name in ("ann", "bob", "cid", "dan", "eve"):
        await staffed.person(f"{name}@example.com", "viewer")
    for path, key in (("/users", "email"), ("/trail", "id")):
        every = (await call(f"GET {path}?limit=200")).json()
        assert every["next"] is None
        found: list[str] = []
        after = ""
        while True:
            page = (await call(f"GET {path}?limit=2&after={after}")).json()
            found += [row[key] for row in page["data"]]
            if page["next"] is None:
                break
            after = page["next"]
        assert found == [row[key] for row in every["data"]], path
        assert len(found) >= 6
    assert (await call("GET /users?limit=201")).json()["field"] == "limit"
    assert (await call("GET /users?limti=2")).status_code == 400
    assert (await call("GET /trail?after=x")).status_code == 400


async def test_requests_come_in_pages_over_midnight(staffed: Staffed) -> None:
    call, house = staffed.callers[0], staffed.hotel.house
    user = await house.user()
    house.clock.now += 15.9 * 3600  # it was eight
    for _ in range(3):
        await house.ask("chat", "chat-plain", user)
    ids = [row["id"] for row in await house.rows(user)]
    page = (await call("GET /requests?limit=2")).json()
    house.clock.now += 3600
    rest = (await call(f"GET /requests?limit=2&after={page['next']}")).json()
    assert sorted(row["id"] for row in [*page["data"], *rest["data"]]) == sorted(ids)
    assert rest["next"] is None
    assert (await call("GET /requests?after=1.2")).status_code == 400


async def test_search_finds_what_the_page_finds(staffed: Staffed) -> None:
    call = staffed.callers[0]
    ann = await staffed.person("ann@example.com")
    key = (await call(f"POST /users/{ann}/keys", {"name": "laptop"})).json()["key"]
    for text in (key, key[:12], "ann@example.com", ann):
        hits = (await call("POST /search", {"q": text})).json()["data"]
        assert [hit["path"] for hit in hits] == [f"/admin/users/{ann}"], text
    assert (await call("GET /requests?day=yesterday")).json()["field"] == "day"


async def test_what_is_read_is_what_the_contract_says(staffed: Staffed) -> None:
    call, ann = staffed.callers[0], await staffed.person("ann@example.com")
    await call(f"POST /users/{ann}/keys")
    await call(f"POST /users/{ann}/disable")
    operation = (await call("GET /changes")).json()["data"][0]["operation"]
    ids = {
        "users": ann,
        "plans": "free",
        "models": "claude-haiku-4.5",
        "providers": "absent",
        "key": "outside",
        "changes": operation,
    }
    for row in staffed.api.rows:
        if not row.route.startswith("GET ") or row.name == "request_show":
            continue
        answer = await call(_filled(row, ids))
        assert answer.status_code == 200, (row.name, answer.text)
        path = BASE + row.route.partition(" ")[2].replace(":path", "")
        told = CONTRACT["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator(resolved(told)).validate(answer.json())


# ---- what a fuzzer has found that reads the contract (``docs/decisions/0034-fuzzing-the-admin-api.md``): each by its kind


async def test_a_path_says_every_method_by_which_it_is_called(staffed: Staffed) -> None:
    """Each method of a path is a route of its own, and the first of them alone was said."""
    call = staffed.callers[0]
    by_path: dict[str, set[str]] = {}
    for row in staffed.api.rows:
        method, _, path = row.route.partition(" ")
        by_path.setdefault(path, set()).update({method, "HEAD"} if method == "GET" else {method})
    for path, methods in by_path.items():
        tried = re.sub(r"\{[^}]+\}", "absent", path)
        for method in ("OPTIONS", "TRACE", *({"GET", "POST", "PUT", "DELETE", "PATCH"} - methods)):
            answer = await call(f"{method} {tried}")
            if answer.status_code != 405:  # the same words are an id of another path
                assert answer.status_code in {200, 400, 404}, (method, path)
                continue
            allowed = set(answer.headers["allow"].split(", "))
            assert methods <= allowed, (method, path)
            assert method not in allowed, (method, path)
            assert answer.json()["code"] == "method_not_allowed"
    assert {"GET", "HEAD", "POST"} == set((await call("DELETE /users")).headers["allow"].split(", "))


async def test_a_dry_run_is_said_in_the_words_of_the_contract_and_no_others(staffed: Staffed) -> None:
    call, ann = staffed.callers[0], await staffed.person("ann@example.com")
    words = CONTRACT["components"]["parameters"]["AdminDryRun"]["schema"]["enum"]
    for word in words:
        answer = await call(f"POST /users/{ann}/disable?dry_run={word}")
        assert answer.status_code == 200, (word, answer.text)
        stays = '"disabled_at":null' in (await call(f"GET /users/{ann}")).text
        assert stays == (word in ("1", "true")), word
        await call(f"POST /users/{ann}/enable")
    for word in ("2", "01", "True", "yes", "null", "-1", "1.0", "%20", "1&dry_run=x"):
        answer = await call(f"POST /users/{ann}/disable?dry_run={word}")
        assert (answer.status_code, answer.json()["field"]) == (400, "dry_run"), word


async def test_an_idempotency_key_is_what_the_contract_says(staffed: Staffed) -> None:
    call, ann = staffed.callers[0], await staffed.person("ann@example.com")
    said = CONTRACT["components"]["parameters"]["AdminIdempotencyKey"]["schema"]
    for key in ("a", "~", "a b", "x" * 255, "x" * 256, "a\tb", "\x7f", "é", ""):
        fits = re.search(said["pattern"], key) is not None and len(key) <= said["maxLength"]
        headers = {b"idempotency-key": key.encode("latin-1")}
        answer = await call.http.post(f"{BASE}/users/{ann}/verify", headers=headers)
        assert (answer.status_code != 400) == fits, (key, answer.text)
