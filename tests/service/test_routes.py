"""The routes: every prefix, the hello, the models, and what is not there."""

import pytest

from tests.service.conversations import DIALECTS, PATHS, body_of, text_of
from tests.service.running_service import FREE, PRO, STARTER, House

PREFIXES = ("/api/v1", "/v1", "/api/v1/v1", "/v1/v1")
ROUTES = {"chat": "/chat/completions", "messages": "/messages"}


async def test_the_same_routes_answer_under_every_prefix_and_queries_are_ignored(house: House) -> None:
    user = await house.user()
    for prefix in PREFIXES:
        for dialect, route in ROUTES.items():
            for query in ("", "?beta=true", "?a=1&b=%2F"):
                body = body_of(dialect, f"{dialect}-plain")
                answer = await house.http("POST", prefix + route + query, user.key, body=body)
                assert answer.status == 200, (prefix, route, query, answer.body)
                assert "simulated" in text_of(dialect, answer)
        counted = await house.http(
            "POST",
            f"{prefix}/messages/count_tokens?beta=true",
            user.key,
            body=body_of("messages", "messages-plain", max_tokens=...),
        )
        assert counted.status == 200
        models = await house.http("GET", f"{prefix}/models?limit=1000", user.key)
        assert models.status == 200
        assert models.json["data"]
        one = await house.http("GET", f"{prefix}/models/claude-haiku-4.5", user.key)
        assert one.json["id"] == "claude-haiku-4.5"


async def test_the_hello_answers_to_head_and_get_without_a_key_and_nothing_redirects(house: House) -> None:
    for prefix in PREFIXES:
        for path in (prefix, f"{prefix}/", f"{prefix}/api/hello", f"{prefix}/api/hello?x=1"):
            for method in ("HEAD", "GET"):
                answer = await house.http(method, path)
                assert answer.status == 200, (method, path)
                assert "location" not in answer.headers
                assert "x-request-id" in answer.headers
                assert bool(answer.body) == (method == "GET")
    for path in ("/api/hello", "/api/hello?beta=true"):
        assert (await house.http("HEAD", path)).status == 200
        assert (await house.http("GET", path)).json["status"] == "ok"


@pytest.mark.parametrize(("plan", "expected"), [("free", FREE), ("starter", STARTER), ("pro", PRO)])
async def test_the_models_of_each_plan_are_those_of_the_documentation(
    house: House, plan: str, expected: tuple[str, ...]
) -> None:
    user = await house.user(plan)
    listed = (await house.http("GET", "/api/v1/models", user.key)).json
    assert listed["object"] == "list"
    assert listed["has_more"] is False
    assert {row["id"] for row in listed["data"]} == set(expected)
    assert (listed["first_id"], listed["last_id"]) == (listed["data"][0]["id"], listed["data"][-1]["id"])
    for row in listed["data"]:
        assert (row["object"], row["type"]) == ("model", "model")
        assert isinstance(row["created"], int)
        assert row["created_at"].endswith("Z")
        assert row["owned_by"]
        assert row["display_name"]
        one = await house.http("GET", f"/v1/models/{row['id']}", user.key)
        assert one.json == row
        assert (await house.http("HEAD", f"/v1/models/{row['id']}", user.key)).status == 200
    others = await house.http("GET", "/v1/models/lab-none", user.key)
    assert others.status == 404
    for id in expected:
        assert id in others.error


@pytest.mark.parametrize("plan", ["free", "starter", "pro"])
async def test_each_plan_serves_its_models_in_both_formats_and_refuses_the_others_with_403(
    house: House, plan: str
) -> None:
    user = await house.user(plan)
    allowed = {"free": FREE, "starter": STARTER, "pro": PRO}[plan]
    for dialect in DIALECTS:
        for model in PRO:
            answer = await house.ask(dialect, model, user)
            if model not in allowed:
                assert answer.status == 403, (dialect, model)
                assert answer.code == "model_not_on_plan"
                assert "pro" in answer.error
                continue
            assert answer.status == 200, (dialect, model, answer.body)
            if model == "auto-kiro":
                assert answer.json["model"] in allowed
                assert answer.headers["x-penstock-model"] == answer.json["model"]
            else:
                assert answer.json["model"] == model
                assert "x-penstock-model" not in answer.headers


async def test_an_unknown_model_is_a_404_that_names_the_plans_models(house: House) -> None:
    user = await house.user("free")
    for dialect in DIALECTS:
        for name in ("gpt-5", "no-such-model", "claude-instant", "x" * 5000, "модель"):
            answer = await house.ask(dialect, name, user)
            assert answer.status == 404, (dialect, name)
            assert answer.code == "model_not_found"
            for id in FREE:
                assert id in answer.error
            assert len(answer.body) < 1000
    assert house.asked == 0


@pytest.mark.parametrize(
    ("plan", "asked", "served"),
    [
        ("free", "claude-haiku-5-5", "claude-haiku-4.5"),
        ("free", "claude-haiku-4-5-20251001", "claude-haiku-4.5"),
        ("free", "claude-sonnet-5-5", "claude-sonnet-4.6"),
        ("free", "claude-opus-5-5", "claude-sonnet-4.6"),
        ("free", "claude-opus-4-8", "claude-sonnet-4.6"),
        ("free", "claude-sonnet-4-6", "claude-sonnet-4.6"),
        ("free", "claude-sonnet-4-6-20260101", "claude-sonnet-4.6"),
        ("starter", "claude-opus-5-5", "claude-sonnet-4.6"),
        ("pro", "claude-opus-5-5", "claude-opus-4.6"),
        ("pro", "claude-opus-4-8", "claude-opus-4.6"),
        ("pro", "claude-3-7-sonnet-20250219", "claude-3.7-sonnet"),
    ],
)
async def test_claude_codes_own_model_names_reach_the_best_of_their_family_and_it_is_told(
    house: House, plan: str, asked: str, served: str
) -> None:
    user = await house.user(plan)
    for dialect in DIALECTS:
        for stream in (False, True):
            answer = await house.ask(dialect, asked, user, stream=stream)
            assert answer.status == 200
            assert answer.headers["x-penstock-model"] == served
            if stream and dialect == "messages":
                assert answer.frames[0].json["message"]["model"] == served
            elif stream:
                assert answer.frames[0].json["model"] == served
            else:
                assert answer.json["model"] == served
    rows = await house.rows(user)
    assert {(row["model"], row["requested_model"]) for row in rows} == {(served, asked)}


async def test_auto_kiro_stays_within_the_plan_and_takes_a_model_that_can_do_what_is_asked(
    house: House,
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    for plan, allowed in (("starter", STARTER), ("pro", PRO)):
        user = await house.user(plan)
        plain = await house.ask("chat", "auto-kiro", user)
        assert plain.headers["x-penstock-model"] in allowed
        seeing = await house.ask(
            "chat", "auto-kiro", user, messages=[{"role": "user", "content": [image]}], stream=True
        )
        assert seeing.status == 200
        assert seeing.headers["x-penstock-model"] == "claude-sonnet-4.6"
        assert seeing.frames[0].json["model"] == "claude-sonnet-4.6"
    refused = await house.ask("chat", "auto-kiro", await house.user("free"))
    assert refused.status == 403


async def test_unknown_routes_are_404_and_wrong_methods_405_with_allow(house: House) -> None:
    user = await house.user()
    for path in (
        "/v1/nothing",
        "/api/v1/realtime",
        "/api/v2/messages",
        "/api",
        "/v1/models/",
        "/v1//messages",
    ):
        answer = await house.http("GET", path, user.key)
        assert answer.status == 404, path
        assert answer.code == "route_not_found"
    for path, method, allowed in (
        (PATHS["chat"], "GET", "POST"),
        (PATHS["messages"], "DELETE", "POST"),
        ("/v1/messages/count_tokens", "PUT", "POST"),
        ("/v1/models", "POST", "GET, HEAD"),
        ("/v1/models/claude-haiku-4.5", "DELETE", "GET, HEAD"),
        ("/v1", "POST", "GET, HEAD"),
    ):
        answer = await house.http(method, path, user.key)
        assert answer.status == 405, (method, path)
        assert answer.headers["allow"] == allowed
        assert answer.code == "method_not_allowed"
    assert house.asked == 0


WEB_SOCKET = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/responses", {**WEB_SOCKET, "openai-beta": "responses_websockets=2026-02-06"}, 426),
        ("/responses", {"connection": "keep-alive, Upgrade", "upgrade": "h2c, WebSocket"}, 426),
        ("/responses", {"sec-websocket-key": "x", "sec-websocket-version": "13"}, 426),  # behind nginx
        ("/chat/completions", WEB_SOCKET, 426),
        ("/messages", WEB_SOCKET, 426),
        ("/responses", {"connection": "Upgrade", "upgrade": "h2c"}, 405),
        ("/responses", {}, 405),
        ("/realtime", WEB_SOCKET, 404),
        ("", WEB_SOCKET, 200),
    ],
)
async def test_who_asks_for_a_web_socket_is_sent_back_to_post(
    house: House, prefix: str, path: str, headers: dict[str, str], status: int
) -> None:
    user = await house.user("one")
    answer = await house.http("GET", prefix + path, user.key, headers=headers)
    assert answer.status == status
    assert ("upgrade" in answer.headers) is (status == 426)
    after = await house.ask("chat", "chat-plain", user)
    assert after.status == 200


async def test_asking_for_web_sockets_is_not_held_against_anybody(house: House) -> None:
    user = await house.user("one")
    for _ in range(130):
        answer = await house.http("GET", "/v1/responses", user.key, headers=WEB_SOCKET)
        assert answer.status == 426


async def test_the_model_list_comes_in_pages_where_asked_for(house: House) -> None:
    user = await house.user()
    first = await house.http("GET", "/v1/models?limit=2&beta=true", user.key)
    assert (len(first.json["data"]), first.json["has_more"]) == (2, True)
    second = await house.http("GET", f"/v1/models?limit=2&after_id={first.json['last_id']}", user.key)
    assert second.json["first_id"] != first.json["last_id"]
    assert not {entry["id"] for entry in second.json["data"]} & {entry["id"] for entry in first.json["data"]}
    wrong = await house.http("GET", "/v1/models?limit=0", user.key)
    assert (wrong.status, wrong.code) == (400, "invalid_request")
