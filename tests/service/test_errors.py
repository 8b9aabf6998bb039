"""Every status that the documentation names, each in both forms of an error body, with what its caller has to be told."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from penstock.api.client_families import CLIENT_FAMILIES
from penstock.store.journal import JournalFull, Segment
from tests.service.conversations import DIALECTS, PATHS, Answer, body_of
from tests.service.running_service import House, open_house

Headers = dict[str, str]


class Provoked(msgspec.Struct, frozen=True):
    """How to get an answer, and what it must say. ``kind`` is the type word of the native form."""

    status: int
    code: str
    kind: str
    provoke: Callable[[House, str, Headers], Awaitable[Answer]]
    retry: str | None = None
    """The value of ``x-should-retry``."""
    wait: bool = False
    """It says how long to wait."""


def _asks(model: str, **fields: object) -> Callable[[House, str, Headers], Awaitable[Answer]]:
    async def provoke(house: House, dialect: str, headers: Headers) -> Answer:
        user = await house.user()
        return await house.ask(dialect, model.format(dialect), user, headers=headers, **fields)

    return provoke


async def _no_key(house: House, dialect: str, headers: Headers) -> Answer:
    return await house.post(dialect, body_of(dialect, "x"), None, headers=headers)


async def _wrong_key(house: House, dialect: str, headers: Headers) -> Answer:
    return await house.http("POST", PATHS[dialect], "sk-ps-wrong", body=b"{}", headers=headers)


async def _other_plan(house: House, dialect: str, headers: Headers) -> Answer:
    return await house.ask(dialect, "claude-opus-4.6", await house.user("free"), headers=headers)


async def _unverified(house: House, dialect: str, headers: Headers) -> Answer:
    return await house.ask(dialect, "claude-haiku-4.5", await house.user(verified=False), headers=headers)


async def _no_route(house: House, dialect: str, headers: Headers) -> Answer:
    user = await house.user()
    return await house.http("POST", PATHS[dialect] + "/more", user.key, body=b"{}", headers=headers)


async def _wrong_method(house: House, dialect: str, headers: Headers) -> Answer:
    return await house.http("GET", PATHS[dialect], (await house.user()).key, headers=headers)


async def _slow_body(house: House, dialect: str, headers: Headers) -> Answer:
    return await _raw_body(house, dialect, headers, "content-length: 1000", b"{")


async def _long_body(house: House, dialect: str, headers: Headers) -> Answer:
    return await _raw_body(house, dialect, headers, f"content-length: {33 << 20}", b"{")


async def _encoded_body(house: House, dialect: str, headers: Headers) -> Answer:
    return await _raw_body(house, dialect, headers, "content-encoding: compress\r\ncontent-length: 2", b"xx")


async def _long_head(house: House, dialect: str, headers: Headers) -> Answer:
    return await _raw_body(house, dialect, headers, f"x-long: {'x' * (33 << 10)}\r\ncontent-length: 2", b"{}")


async def _raw_body(house: House, dialect: str, headers: Headers, lines: str, body: bytes) -> Answer:
    user = await house.user()
    told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {PATHS[dialect]} HTTP/1.1\r\nhost: a\r\nx-api-key: {user.key}\r\n{told}{lines}\r\n\r\n"
    caller = await house.send(head.encode() + body)
    return await caller.answer()


async def _day_spent(house: House, dialect: str, headers: Headers) -> Answer:
    user = await house.user("few")
    for _ in range(5):
        assert (await house.ask(dialect, f"{dialect}-plain", user)).status == 200
    return await house.ask(dialect, f"{dialect}-plain", user, headers=headers)


async def _slots_taken(house: House, dialect: str, headers: Headers) -> Answer:
    user = await house.user("one")
    await house.begin(dialect, f"wire-{dialect}", user)
    await house.wires[f"wire-{dialect}"].next()
    return await house.ask(dialect, f"{dialect}-plain", user, headers=headers)


async def _unreachable(house: House, dialect: str, headers: Headers) -> Answer:
    house.wires[f"wire-{dialect}"].script = lambda asked: asked.reset()
    return await _asks("wire-{}")(house, dialect, headers)


async def _draining(house: House, dialect: str, headers: Headers) -> Answer:
    assert house.listener is not None
    house.listener._wire.drain()
    return await _asks("{}-plain")(house, dialect, headers)


PROVOKED = {
    "400": Provoked(400, "invalid_request", "invalid_request_error", _asks("{}-plain", stream="yes")),
    "400 of the provider": Provoked(400, "invalid_request", "invalid_request_error", _asks("{}-error-400")),
    "401 missing": Provoked(401, "missing_api_key", "authentication_error", _no_key, "false"),
    "401 wrong": Provoked(401, "invalid_api_key", "authentication_error", _wrong_key, "false"),
    "403 plan": Provoked(403, "model_not_on_plan", "permission_error", _other_plan, "false"),
    "403 mail": Provoked(403, "email_not_verified", "permission_error", _unverified, "false"),
    "404 model": Provoked(404, "model_not_found", "not_found_error", _asks("no-such-model")),
    "404 route": Provoked(404, "route_not_found", "not_found_error", _no_route),
    "405": Provoked(405, "method_not_allowed", "invalid_request_error", _wrong_method),
    "408": Provoked(408, "request_timeout", "invalid_request_error", _slow_body),
    "413": Provoked(413, "request_too_large", "request_too_large", _long_body),
    "413 of the provider": Provoked(413, "request_too_large", "request_too_large", _asks("{}-error-413")),
    "415": Provoked(415, "encoded_body", "invalid_request_error", _encoded_body),
    "431": Provoked(431, "headers_too_large", "invalid_request_error", _long_head),
    "429 day": Provoked(429, "daily_limit_reached", "rate_limit_error", _day_spent, "false", wait=True),
    "429 at once": Provoked(
        429, "concurrent_limit_reached", "rate_limit_error", _slots_taken, "true", wait=True
    ),
    "502 failed": Provoked(502, "provider_error", "api_error", _asks("{}-error-500"), wait=True),
    "502 full": Provoked(502, "provider_overloaded", "overloaded_error", _asks("{}-error-529"), wait=True),
    "502 busy": Provoked(502, "provider_overloaded", "overloaded_error", _asks("{}-error-503"), wait=True),
    "502 refused us": Provoked(502, "provider_credentials", "api_error", _asks("{}-error-401"), wait=True),
    "502 garbled": Provoked(502, "provider_garbled", "api_error", _asks("{}-garbage"), wait=True),
    "502 cut": Provoked(502, "provider_cut", "api_error", _unreachable, wait=True),
    "503 nobody": Provoked(503, "no_provider", "overloaded_error", _asks("absent-model"), wait=True),
    "503 draining": Provoked(503, "draining", "overloaded_error", _draining, wait=True),
}
"""What the documentation says of statuses, row by row."""


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", PROVOKED)
async def test_each_status_has_its_body_in_both_forms(tmp_path: Path, name: str, dialect: str) -> None:
    expected = PROVOKED[name]
    async with open_house(tmp_path / "data", errors_per_minute=0, body_deadline=0.2) as house:
        simple = await expected.provoke(house, dialect, {"x-error-format": "simple"})
        native = await expected.provoke(house, dialect, {"x-error-format": "native"})
        plain = await expected.provoke(house, dialect, {})
    for answer in (simple, native, plain):
        assert answer.status == expected.status
        assert answer.headers["content-type"] == "application/json"
        assert ("request-id" in answer.headers) == (dialect == "messages")
        assert answer.headers.get("x-should-retry") == expected.retry
        assert ("retry-after" in answer.headers) == expected.wait
    id = simple.headers["x-request-id"]
    assert set(simple.json) == {"error", "code", "request_id"}
    assert (simple.json["code"], simple.json["request_id"]) == (expected.code, id)
    assert isinstance(simple.json["error"], str)
    assert simple.json["error"]
    assert set(plain.json) == {"error", "code", "request_id"}
    id = native.headers["x-request-id"]
    assert set(native.json) == {"type", "error", "message", "request_id"}
    assert (native.json["type"], native.json["request_id"]) == ("error", id)
    assert set(native.json["error"]) == {"type", "message", "code", "param"}
    assert (native.json["error"]["type"], native.json["error"]["code"]) == (expected.kind, expected.code)
    assert native.json["message"] == native.json["error"]["message"]


async def test_a_day_that_is_spent_says_so_in_the_documented_words_until_its_end(house: House) -> None:
    answer = await _day_spent(house, "chat", {})
    assert answer.json["error"] == "Daily request limit reached. Upgrade your plan for more requests."
    assert int(answer.headers["retry-after"]) == 16 * 3600
    assert answer.headers["x-ratelimit-remaining"] == "0"


async def test_the_wait_for_a_slot_is_a_minute_at_most_and_the_holder_is_named(house: House) -> None:
    user = await house.user("one")
    await house.begin("chat", "wire-chat", user)
    await house.wires["wire-chat"].next()
    for age, wait in ((0, 1), (10, 10), (59.5, 60), (4000, 60)):
        house.clock.now = 1_800_000_000 + age
        answer = await house.ask("chat", "chat-plain", user)
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) == wait
        assert "1 of 1 running (req_" in answer.error


async def test_what_the_provider_asks_to_wait_is_passed_on_as_far_as_clients_put_up_with(
    house: House,
) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    for asked, told in (("7", "7"), ("60", "60"), ("3600", "60"), ("0", "1"), ("soon", "5"), (None, "5")):
        await house.restart()  # or it would be left alone for so long
        headers = {} if asked is None else {"retry-after": asked}
        wire.script = lambda request, headers=headers: request.answer(b"{}", 429, headers=headers)
        answer = await house.ask("messages", "wire-messages", user)
        assert (answer.status, answer.headers["retry-after"]) == (502, told)
        assert "x-should-retry" not in answer.headers


AGENTS = {
    "claude-cli/2.1.330 (external, sdk-cli)": True,
    "Anthropic/Python 2.12.0": True,
    "Anthropic/JS 1.12.0": True,
    "AsyncAnthropic/Python 0.125.0": True,
    "OpenAI/Python 3.54.0": True,
    "AsyncOpenAI/Python 3.54.0": True,
    "OpenAI/JS 6.1.0": True,
    "ai/7.0.1 ai-sdk/openai-compatible/3.0.0": True,
    "ai-sdk-openai/4.0.0": True,
    "codex_exec/0.169.0": True,
    "opencode/1.18.33": True,
    "litellm/1.94.0": True,
    "langchain-anthropic/2.0": True,
    "pydantic-ai/2.1": True,
    "curl/8.5.0": False,
    "Wget/1.21": False,
    "python-requests/2.32": False,
    "python-httpx/0.28": False,
    "aiohttp/3.13": False,
    "Go-http-client/1.1": False,
    "node": False,
    "Mozilla/5.0 (X11; Linux x86_64)": False,
    "": False,
    "my-own-script": False,
}


async def test_clients_that_parse_a_native_error_get_one_and_the_others_the_documented_form(
    house: House,
) -> None:
    async def native(**named: str) -> bool:
        headers = {name.replace("_", "-"): value for name, value in named.items()}
        answer = await house.http("POST", PATHS["chat"], body=b"{}", headers=headers)
        assert answer.status == 401
        return isinstance(answer.json["error"], dict)

    for agent, expected in AGENTS.items():
        assert await native(user_agent=agent) is expected, agent
        assert await native(user_agent=agent, x_error_format="simple") is False
        assert await native(user_agent=agent, x_error_format="native") is True
        assert await native(user_agent=agent, x_stainless_lang="python") is True
        assert await native(user_agent=agent, x_error_format="else") is expected
    assert await native(x_stainless_retry_count="0", x_error_format="Simple") is False
    for family in CLIENT_FAMILIES:
        assert await native(user_agent=f"{family.mark.decode()}1.0") is family.native


async def test_what_is_refused_too_often_is_429_for_the_key_and_for_the_address_apart(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", errors_per_minute=4, errors_per_minute_address=3) as house:
        user, neighbour = await house.user(), await house.user()
        for _ in range(4):
            assert (await house.ask("chat", "no-such-model", user)).status == 404
        answer = await house.ask("chat", "chat-plain", user)
        assert (answer.status, answer.code) == (429, "too_many_refused_requests")
        assert 0 < int(answer.headers["retry-after"]) <= 60
        assert answer.headers["ratelimit-policy"].startswith('"day"')
        assert (await house.ask("chat", "chat-plain", neighbour)).status == 200
        left = []
        for _ in range(3):
            refused = await house.http("GET", "/v1/models", "sk-ps-wrong")
            assert refused.status == 401
            left.append(refused.headers["x-ratelimit-remaining"])
        assert left == ["2", "1", "0"]
        shut = await house.http("GET", "/v1/models", "sk-ps-wrong")
        assert (shut.status, shut.code) == (429, "too_many_refused_requests")
        assert 0 < int(shut.headers["retry-after"]) <= 60
        assert (await house.ask("chat", "chat-plain", neighbour)).status == 200
        assert (await house.http("HEAD", "/v1")).status == 200


async def test_the_callers_own_429_and_a_failure_of_the_provider_are_no_refusals(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", errors_per_minute=2) as house:
        user = await house.user("few")
        for model in ("chat-error-500", "chat-error-500", "chat-garbage", "chat-error-429"):
            assert (await house.ask("chat", model, user)).status == 502
        for _ in range(5):
            assert (await house.ask("chat", "chat-plain", user)).status == 200
        for _ in range(5):
            assert (await house.ask("chat", "chat-plain", user)).code == "daily_limit_reached"


async def test_a_request_that_cannot_be_recorded_is_503_and_not_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await house.user()

    def full(_segment: Segment, _record: bytes) -> None:
        raise JournalFull("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "append", full)
        for dialect in DIALECTS:
            for stream in (False, True):
                answer = await house.ask(dialect, f"{dialect}-plain", user, stream=stream)
                assert (answer.status, answer.code) == (503, "cannot_record")
                assert "retry-after" in answer.headers
                assert answer.headers["x-ratelimit-remaining"] == answer.headers["x-ratelimit-limit"]
    assert house.asked == 0
    assert (await house.ask("chat", "chat-plain", user)).status == 200
    assert len(await house.rows(user)) == 1
    assert await house.used(user) == 1


async def test_requests_go_on_while_the_database_takes_no_rows(house: House) -> None:
    user = await house.user()
    async with house.store.database.transaction() as conn:
        await conn.exec_driver_sql("alter table requests rename to requests_away")
    for dialect in DIALECTS:
        assert (await house.ask(dialect, f"{dialect}-plain", user)).status == 200
    async with house.store.database.transaction() as conn:
        await conn.exec_driver_sql("alter table requests_away rename to requests")
    assert len(await house.rows(user)) == len(DIALECTS)
    assert await house.used(user) == len(DIALECTS)


async def test_a_bug_of_ours_is_a_500_in_the_callers_form_and_gives_the_request_back(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    user = await house.user()

    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("penstock.relay.router.Router.headers", broken)
    for form in ("simple", "native"):
        answer = await house.ask("messages", "messages-plain", user, headers={"x-error-format": form})
        assert answer.status == 500
        assert answer.code == "internal_error"
        assert isinstance(answer.json["error"], dict) == (form == "native")
        assert answer.headers["x-ratelimit-remaining"] == answer.headers["x-ratelimit-limit"]
    assert "ZeroDivisionError" in caplog.text
    assert {(row["outcome"], row["status"], row["counted"]) for row in await house.rows(user)} == {
        ("error", 500, False)
    }
    monkeypatch.undo()
    assert (await house.ask("messages", "messages-plain", user)).status == 200
