"""Who may call: both forms of sending a key, what is wrong with one, and how soon a change is felt."""

import pytest

from penstock.domain.keys.management import KeyWish
from tests.service.conversations import DIALECTS, PATHS, body_of
from tests.service.running_service import House

FOREIGN = "sk-ant-api03-somebody-elses-key"
ROUTES = (
    ("POST", PATHS["chat"], body_of("chat", "chat-plain")),
    ("POST", PATHS["messages"], body_of("messages", "messages-plain")),
    ("POST", "/v1/messages/count_tokens", body_of("messages", "messages-plain")),
    ("GET", "/v1/models", b""),
    ("GET", "/v1/models/claude-haiku-4.5", b""),
)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=[path for _, path, _ in ROUTES])
async def test_every_route_takes_the_key_in_either_header(
    house: House, method: str, path: str, body: bytes
) -> None:
    user, other = await house.user(), await house.user()
    good: list[dict[str, str]] = [
        {"x-api-key": user.key},
        {"authorization": f"Bearer {user.key}"},
        {"authorization": f"bearer  {user.key}"},
        {"x-api-key": user.key, "authorization": f"Bearer {user.key}"},
        {"x-api-key": user.key, "authorization": f"Bearer {FOREIGN}"},
        {"x-api-key": FOREIGN, "authorization": f"Bearer {user.key}"},
        {"x-api-key": "", "authorization": f"Bearer {user.key}"},
        {"x-api-key": user.key, "authorization": "Basic dXNlcjpwYXNz"},
    ]
    for headers in good:
        answer = await house.http(method, path, body=body, headers=headers)
        assert answer.status == 200, headers
    other_end = "y" if user.key.endswith("x") else "x"
    bad: list[tuple[dict[str, str], str]] = [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer "}, "missing_api_key"),
        ({"x-api-key": FOREIGN}, "invalid_api_key"),
        ({"x-api-key": FOREIGN, "authorization": f"Bearer {FOREIGN}"}, "invalid_api_key"),
        ({"x-api-key": user.key, "authorization": f"Bearer {other.key}"}, "invalid_api_key"),
        ({"x-api-key": user.key[:-1]}, "invalid_api_key"),
        ({"authorization": f"Bearer {user.key[:-1]}{other_end}"}, "invalid_api_key"),
        ({"x-api-key": "sk-ps-\xe9\xe9"}, "invalid_api_key"),
    ]
    asked = house.asked
    for headers, code in bad:
        answer = await house.http(method, path, body=body, headers=headers)
        assert (answer.status, answer.code) == (401, code), headers
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["ratelimit-policy"].startswith('"refused"')
        assert user.key not in answer.body.decode()
    assert house.asked == asked


@pytest.mark.parametrize("name", ["x-api-key", "authorization"])
async def test_a_header_with_a_key_comes_once(house: House, name: str) -> None:
    """Of two, a proxy before us might judge by the first and we by the last."""
    user, other = await house.user(), await house.user()
    lines = "".join(f"{name}: {key}\r\n" for key in (user.key, other.key))
    caller = await house.send(f"GET /v1/models HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode())
    answer = await caller.answer()
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert f"more than one {name} header" in answer.error


async def test_a_well_formed_key_that_is_not_there_is_401(house: House) -> None:
    user = await house.user()
    async with house.store.database.transaction() as conn:
        await conn.exec_driver_sql("delete from api_keys where user_id = ?", (user.id,))
    answer = await house.http("GET", "/v1/models", user.key)
    assert (answer.status, answer.code) == (401, "invalid_api_key")


async def test_before_the_mail_is_verified_and_on_a_closed_account_it_is_403(house: House) -> None:
    for dialect in DIALECTS:
        answer = await house.ask(dialect, f"{dialect}-plain", await house.user(verified=False))
        assert (answer.status, answer.code) == (403, "email_not_verified")
        assert answer.headers["x-should-retry"] == "false"
        answer = await house.ask(dialect, f"{dialect}-plain", await house.user(disabled=True))
        assert (answer.status, answer.code) == (403, "account_disabled")
        assert answer.headers["x-should-retry"] == "false"
    assert house.asked == 0


async def test_a_keys_own_lists_narrow_its_plan(house: House) -> None:
    user = await house.user()
    models = await house.key(user.id, KeyWish("narrow", models=("chat-plain",)))
    assert (await house.http("POST", PATHS["chat"], models, body=body_of("chat", "chat-plain"))).status == 200
    other = await house.http("POST", PATHS["chat"], models, body=body_of("chat", "claude-haiku-4.5"))
    assert (other.status, other.code) == (403, "model_not_on_plan")
    listed = await house.http("GET", "/v1/models", models)
    assert [row["id"] for row in listed.json["data"]] == ["chat-plain"]
    elsewhere = await house.key(user.id, KeyWish("elsewhere", addresses=("203.0.113.0/24",)))
    answer = await house.http("GET", "/v1/models", elsewhere)
    assert (answer.status, answer.code) == (403, "address_not_allowed")
    here = await house.key(user.id, KeyWish("here", addresses=("127.0.0.0/8",)))
    assert (await house.http("GET", "/v1/models", here)).status == 200


async def test_an_expired_key_is_401_from_that_moment(house: House) -> None:
    user = await house.user()
    key = await house.key(user.id, KeyWish("short", expires_at=int((house.clock.now + 60) * 1000)))
    assert (await house.http("GET", "/v1/models", key)).status == 200
    house.clock.now += 60
    assert (await house.http("GET", "/v1/models", key)).status == 401
    assert (await house.http("GET", "/v1/models", user.key)).status == 200


async def test_the_key_is_asked_for_before_the_body_is_read(house: House) -> None:
    caller = await house.send(
        b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 30000000\r\nexpect: 100-continue\r\n\r\n"
    )
    answer = await caller.answer()
    assert answer.status == 401


@pytest.mark.parametrize(
    ("version", "status"),
    [
        (None, 200),
        ("2023-06-01", 200),
        ("2026-10-21", 200),
        ("latest", 400),
        ("2023-6-1", 400),
        ("2023-06-01 ", 200),
        ("2023-06-01, 2024-01-01", 400),
        ("\xb2\xb0\xb2\xb3-06-01", 400),
    ],
)
async def test_the_anthropic_version_is_optional_and_a_date(
    house: House, version: str | None, status: int
) -> None:
    user = await house.user()
    headers = {} if version is None else {"anthropic-version": version}
    house.wires["wire-messages"].script = lambda asked: asked.answer(b'{"type":"message","content":[]}')
    answer = await house.ask("messages", "wire-messages", user, headers=headers)
    assert answer.status == status
    if status == 200:
        asked = await house.wires["wire-messages"].next()
        assert asked.headers["anthropic-version"] == (version or "2023-06-01").strip()
    else:
        assert "anthropic-version" in answer.error
        assert house.asked == 0
    native = await house.ask(
        "messages", "wire-messages", user, headers={**headers, "x-error-format": "native"}
    )
    if status == 400:
        assert native.json["error"]["param"] == "anthropic-version"
