"""What is beside the data plane: the landing page, health, readiness and the operator's numbers."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import insert

from penstock.core.limits import day_of
from penstock.operations.first_start import local_servers
from penstock.store.sql.schema import usage_days
from tests.service.conversations import DIALECTS
from tests.service.running_service import PRO, House, open_house


async def test_the_landing_page_names_the_service_its_models_and_its_plans(house: House) -> None:
    answer = await house.page("/", host="llm.example.com")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    text = answer.body.decode()
    assert "Penstock" in text
    assert "http://llm.example.com/api/v1" in text
    for id in PRO:
        assert id in text
    for limit in ("5,000", "20,000", "50,000"):
        assert limit in text


async def test_the_public_url_and_the_brand_are_the_operators(tmp_path: Path) -> None:
    async with open_house(
        tmp_path / "data", public_url="https://ai.example.org", brand="Acme <b>& Co</b>"
    ) as house:
        text = (await house.page("/")).body.decode()
        assert "https://ai.example.org/api/v1" in text
        assert "<b>& Co" not in text
        assert "Acme &lt;b&gt;&amp; Co&lt;/b&gt;" in text


async def test_every_page_forbids_what_it_does_not_need(house: House) -> None:
    for path in ("/", "/healthz", "/readyz", "/metrics", "/static/site.css", "/no-such-page"):
        answer = await house.page(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert (await house.page("/no-such-page")).status == 404
    home = (await house.page("/")).body.decode()
    assert "<script>" not in home
    assert "style=" not in home
    assert "http://" not in home.replace("http://penstock.test", "")


async def test_alive_and_ready(house: House) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await house.page(path)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
    assert house.listener is not None
    house.listener._wire.drain()
    assert (await house.page("/healthz")).status == 200
    answer = await house.page("/readyz")
    assert (answer.status, answer.body) == (503, b"draining\n")
    user = await house.user()
    for dialect in DIALECTS:
        refused = await house.ask(dialect, f"{dialect}-plain", user)
        assert (refused.status, refused.code) == (503, "draining")
        assert "retry-after" in refused.headers


async def test_the_numbers_are_for_this_machine_or_for_who_has_the_token(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", trusted_proxies=("127.0.0.1",)) as house:
        assert (await house.page("/metrics")).status == 200
        behind = await house.page("/metrics", headers={"x-forwarded-for": "203.0.113.9"})
        assert behind.status == 404
    async with open_house(tmp_path / "more", metrics_token="secret-token") as house:
        assert (await house.page("/metrics")).status == 404
        for given in ("Bearer wrong", "secret-token", "Bearer secret-token ", "Bearer s\xe9"):
            answer = await house.page("/metrics", headers={"authorization": given})
            assert answer.status == (200 if given.strip() == "Bearer secret-token" else 404), given
        assert (await house.page("/metrics", headers={"authorization": "Bearer secret-token"})).status == 200


def _number(text: str, name: str, **labels: str) -> float:
    named = ",".join(f'{label}="{labels[label]}"' for label in sorted(labels))
    start = f"{name}{{{named}}} " if labels else f"{name} "
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return float(line.rpartition(" ")[2])


async def test_the_numbers_say_what_happened(house: House) -> None:
    user = await house.user("one")
    for model in ("chat-plain", "chat-plain", "chat-error-500", "no-such"):
        await house.ask("chat", model, user)
    caller = await house.begin("messages", "wire-messages", user, stream=True)
    await house.wires["wire-messages"].next()
    text = (await house.page("/metrics")).body.decode()
    for status, count in (("200", 2), ("502", 1), ("404", 1)):
        assert _number(text, "penstock_requests_total", dialect="chat", status=status) == count
    served = {"model": "chat-plain", "provider": "sim-chat", "outcome": "completed"}
    assert _number(text, "penstock_relayed_total", **served) == 2
    assert _number(text, "penstock_choices_total", reason="only") == 3
    first = {"model": "chat-plain", "provider": "sim-chat"}
    assert _number(text, "penstock_upstream_first_content_seconds_count", **first) == 2
    failed = {"provider": "sim-chat", "code": "provider_error"}
    assert _number(text, "penstock_upstream_failures_total", **failed) == 1
    assert _number(text, "penstock_running") == 1
    caller.leave()
    await house.rows(user)
    text = (await house.page("/metrics")).body.decode()
    assert _number(text, "penstock_running") == 0
    assert "no-such" not in text, "no label is a caller's own text"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_pages_take_no_other_methods(house: House, method: str) -> None:
    for path in ("/", "/healthz", "/metrics"):
        assert (await house.page(path, method=method)).status == 405


def test_our_own_simulator_is_never_taken_for_a_model_server() -> None:
    servers = dict(local_servers())
    assert set(servers) == {"ollama", "llama-server", "vllm", "lmstudio"}
    assert not any(":9000/" in url for url in servers.values())


async def test_yesterdays_books_are_looked_at_by_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_house(tmp_path / "data") as house:
        yesterday = day_of(house.clock.now) - 1
        async with house.store.database.transaction() as conn:
            await conn.execute(insert(usage_days).values(user_id="usr_x", day=yesterday, used=2, refunded=0))
        await house.restart()
        async with asyncio.timeout(60):
            while b"penstock_ledger_differences 1.0" not in (await house.page("/metrics")).body:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
    assert f"usage_days.used of ('usr_x', {yesterday}) is 2, its rows say 0" in caplog.text


async def test_browsers_keep_to_https_where_it_is_known(tmp_path: Path) -> None:
    name, https = "strict-transport-security", {"x-forwarded-proto": "https"}
    paths = ("/", "/no-such-page", "/static/app.css", "/signin?x=%00", "/healthz")
    async with open_house(tmp_path / "plain", trusted_proxies=("127.0.0.1",)) as house:
        for path in paths:
            assert name not in (await house.page(path)).headers, path
            said = (await house.page(path, headers=https)).headers
            assert said[name] == "max-age=31536000", path
            assert name not in (await house.page(path, headers={"x-forwarded-proto": "http"})).headers
    async with open_house(tmp_path / "stranger") as house:
        assert name not in (await house.page("/", headers=https)).headers, "nobody is trusted to say so"
    async with open_house(tmp_path / "url", public_url="https://llm.example.com", hsts_seconds=60) as house:
        for path in paths:
            assert (await house.page(path)).headers[name] == "max-age=60"
    async with open_house(tmp_path / "off", public_url="https://llm.example.com", hsts_seconds=0) as house:
        assert name not in (await house.page("/")).headers


async def test_answers_of_the_api_are_what_they_say(house: House) -> None:
    user = await house.user()
    bad = await house.http("POST", "/v1/chat/completions", user.key, body=b"{")
    unknown = await house.http("GET", "/v1/models", "sk-no")
    good = await house.ask("chat", "chat-plain", user)
    stream = await house.ask("messages", "chat-plain", user, stream=True)
    hello, missing = await house.page("/api/hello"), await house.page("/api/v1/none")
    statuses = [answer.status for answer in (bad, unknown, good, stream, hello, missing)]
    assert statuses == [400, 401, 200, 200, 200, 404]
    for answer in (bad, unknown, good, stream, hello, missing):
        assert answer.headers["x-content-type-options"] == "nosniff", answer
