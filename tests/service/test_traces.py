"""Traces: every failed and slow request and a share of the others, made after the end, without content, not for providers."""

import asyncio
import base64
import logging
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.errors import OperatorError
from penstock.operations.tracing import collector as collector_module
from penstock.operations.tracing.records import parent_of
from penstock.settings import load
from penstock.settings.describe import shown_value
from tests.service.collector import Collector, collecting
from tests.service.conversations import DIALECTS, REPLIES
from tests.service.running_service import VENDOR_KEY, House, User, open_house
from tests.service.scripted import Asked
from tests.service.test_canary import ANSWER, PROMPT, _everything
from tests.service.test_routing import refusing, well

both = pytest.mark.parametrize("dialect", DIALECTS)
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS_SECRET = "canary-collector-4e1b77"


@asynccontextmanager
async def traced(tmp_path: Path, **settings: Any) -> AsyncGenerator[tuple[House, Collector]]:
    """A house that sends the traces of all its requests, unless the settings say otherwise."""
    async with collecting() as collector:
        given = {"otel_endpoint": collector.url, "otel_sample": 1.0, **settings}
        async with open_house(tmp_path / "data", **given) as house:
            yield house, collector


async def id_of(house: House, dialect: str, model: str, user: User, **more: Any) -> str:
    return (await house.ask(dialect, model, user, **more)).headers["x-request-id"]


@both
@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_a_span_and_its_attempt_one_below_it(
    tmp_path: Path, dialect: str, *, stream: bool
) -> None:
    async with traced(tmp_path, otel_headers=(f"Authorization=Bearer {HEADERS_SECRET}",)) as (
        house,
        collector,
    ):
        user = await house.user()
        well(house, dialect, "wire")
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
        id = await id_of(house, dialect, f"wire-{dialect}", user, stream=stream, headers=headers)
        own, attempt = await collector.of(id)
        row = await house.row(user)
    assert (own.name, own.server, own.failed, own.parent) == (f"POST {_path(dialect)}", True, False, "")
    assert own.trace == attempt.trace != TRACE, "a caller that is not trusted chooses no trace"
    assert (attempt.name, attempt.server, attempt.parent) == (f"chat up-{dialect}", False, own.id)
    assert own.began <= attempt.began <= attempt.ended <= own.ended
    assert abs(own.began / 1e9 - house.clock.now) < 1
    said = own.said
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.request.model"] == f"wire-{dialect}"
    assert (said["http.response.status_code"], said["penstock.outcome"]) == (200, "completed")
    assert (said["penstock.account_id"], said["penstock.key_id"]) == (user.id, row["key_id"])
    assert "error.type" not in said
    said = attempt.said
    assert said["gen_ai.provider.name"] == {"chat": "custom", "messages": "anthropic"}[dialect]
    assert said["gen_ai.request.stream"] is stream
    assert said["gen_ai.response.model"] == f"up-{dialect}"
    assert said["gen_ai.usage.input_tokens"] == sum(
        row[name] or 0 for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens")
    )
    assert said["gen_ai.usage.output_tokens"] == row["output_tokens"]
    assert (said["server.address"], said["server.port"]) == ("127.0.0.1", house.wires[f"wire-{dialect}"].port)
    assert said["penstock.attempt.reason"] == "only"
    assert 0 <= said["gen_ai.response.time_to_first_chunk"] < 60
    assert own.resource["service.name"] == "Penstock"
    assert own.resource["service.version"]
    assert f"authorization: bearer {HEADERS_SECRET}".encode() in collector.heads[0]
    assert b"traceparent" not in b"".join(asked.head for asked in house.wires[f"wire-{dialect}"].asked)
    assert shown_value(house.settings, "otel_headers") == "(set)"


def _path(dialect: str) -> str:
    return {"chat": "/chat/completions", "messages": "/messages"}[dialect]


async def test_a_failover_is_two_spans_and_what_was_refused_is_one(tmp_path: Path) -> None:
    async with traced(tmp_path, otel_names="both") as (house, collector):
        user = await house.user()
        well(house, "chat")
        house.wires["wire-chat"].script = refusing(403, "no such luck")
        own, first, second = await collector.of(await id_of(house, "chat", "pair-chat", user))
        assert (own.failed, first.failed, second.failed) == (False, True, False)
        assert (first.said["error.type"], first.said["http.response.status_code"]) == ("auth", 403)
        assert (second.said["penstock.attempt"], second.said["penstock.attempt.reason"]) == (2, "after_auth")
        assert first.ended <= second.began
        assert "gen_ai.usage.output_tokens" not in first.said
        assert second.said["gen_ai.system"] == second.said["gen_ai.provider.name"]
        house.wires["wire-chat"].script = refusing(400, "messages: too many")
        own, only = await collector.of(await id_of(house, "chat", "wire-chat", user))
        assert (own.failed, own.said["error.type"], own.said["penstock.counted"]) == (
            False,
            "invalid_request",
            False,
        )
        assert only.said["error.type"] == "caller"
        refused = await house.ask("chat", "no-such-model", user)
        (own,) = await collector.of(refused.headers["x-request-id"])
        assert (own.said["http.response.status_code"], own.said["error.type"]) == (404, "model_not_found")
        assert own.said["penstock.account_id"] == user.id
        assert "no-such-model" not in str(own.said), "what a caller has made up is not told"
        stranger = await house.http("POST", "/v1/chat/completions", "sk-ps-" + "a" * 49, body=b"{}")
        (own,) = await collector.of(stranger.headers["x-request-id"])
        assert own.said["http.response.status_code"] == 401
        assert b"too many" not in collector.raw
        assert b"luck" not in collector.raw


async def test_a_request_that_nobody_could_be_asked_for_is_one_span(tmp_path: Path) -> None:
    async with traced(tmp_path, otel_sample=0.0) as (house, collector):
        users = [await house.user() for _ in range(3)]
        for place in ("wire", "spare"):
            house.wires[f"{place}-chat"].script = refusing(503, "no")
        for number in range(60):
            answer = await house.ask("chat", "pair-chat", users[number % 3], temperature=number / 100)
            assert answer.status == 502
        rows = [row for user in users for row in await house.rows(user)]
        lone = next(row["id"] for row in rows if row["attempts"] == 0)
        (own,) = await collector.of(lone)
        assert (own.failed, own.said["http.response.status_code"]) == (True, 502)
        assert own.said["error.type"] == "provider_overloaded"


def unhurried(asked: Asked) -> None:
    """Answer when the loop's clock has gone on: it has milliseconds, and on a quick machine an answer takes none."""
    asyncio.get_running_loop().call_later(0.1, asked.answer, REPLIES["chat"])


async def test_what_failed_or_was_slow_is_kept_whatever_the_share(tmp_path: Path) -> None:
    async with traced(tmp_path, otel_sample=0.0, otel_slow=3600.0) as (house, collector):
        user = await house.user()
        well(house, "chat", "wire")
        quick = await id_of(house, "chat", "wire-chat", user)
        left_out = await id_of(house, "chat", "no-such-model", user)
        failed = await id_of(house, "chat", "chat-error-500", user)
        own, attempt = await collector.of(failed)
        assert (own.failed, own.said["http.response.status_code"]) == (True, 502)
        assert (attempt.failed, attempt.said["error.type"]) == (True, "broken")
        cut = await id_of(house, "chat", "chat-cut", user, stream=True)
        own, attempt = await collector.of(cut)
        assert (own.failed, own.said["error.type"]) == (True, "provider_cut")
        assert own.said["gen_ai.request.stream"] is True
        assert not {quick, left_out} & collector.ids()
        await house.restart(otel_slow=0.01)
        house.wires["wire-chat"].script = unhurried
        slow = await id_of(house, "chat", "wire-chat", user)
        own, _ = await collector.of(slow)
        assert not own.failed


async def test_a_trusted_caller_has_its_request_in_its_own_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with traced(tmp_path, otel_sample=0.0, otel_trust_callers=True) as (house, collector):
        user = await house.user()
        well(house, "chat", "wire")
        kept, other = ({"traceparent": f"00-{TRACE}-{SPAN}-{flags}"} for flags in ("01", "00"))
        left_out = await id_of(house, "chat", "wire-chat", user, headers=other)
        own, attempt = await collector.of(await id_of(house, "chat", "wire-chat", user, headers=kept))
        assert (own.trace, own.parent, attempt.trace, attempt.parent) == (TRACE, SPAN, TRACE, own.id)
        assert left_out not in collector.ids()
        assert b"traceparent" not in b"".join(asked.head for asked in house.wires["wire-chat"].asked)
        house.wires["wire-chat"].script = refusing(403, "no")
        await house.ask("chat", "wire-chat", user, headers=other)
        mine = await id_of(house, "chat", "wire-chat", user)
        own, _ = await collector.of(mine)
        said = [record.__dict__ for record in caplog.records]
        lines = {it["request_id"]: it["trace_id"] for it in said if "trace_id" in it}
        assert TRACE in lines.values()
        assert lines[mine] == own.trace


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"00",
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-1".encode(),
        b"\xff" * 55,
    ],
)
def test_what_is_no_traceparent_is_none(header: bytes | None) -> None:
    assert parent_of(header) is None


async def test_a_collector_that_is_away_costs_traces_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with traced(tmp_path, otel_queue=4, otel_timeout=0.5) as (house, collector):
        user = await house.user()
        well(house, "chat", "wire")
        collector.status = 400
        for _ in range(12):
            assert (await house.ask("chat", "wire-chat", user)).status == 200
        await collector.asked()
        metrics = (await house.page("/metrics")).body.decode()
        assert 'penstock_traces_total{state="sent"} 0.0' in metrics
        collector.status = 200
        while True:
            id = await id_of(house, "chat", "wire-chat", user)
            await collector.asked()
            if id in collector.ids():
                break
        metrics = (await house.page("/metrics")).body.decode()
        lost = next(
            line for line in metrics.splitlines() if line.startswith('penstock_traces_total{state="lost"}')
        )
        assert float(lost.split()[1]) > 0
    assert "the collector does not take traces" in caplog.text


async def test_no_key_prompt_or_answer_is_in_a_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret_header = (f"x-token={HEADERS_SECRET}",)
    async with traced(tmp_path, otel_headers=secret_header, otel_names="both") as (house, collector):
        user = await house.user()
        await _everything(house, user.key)
        last = await id_of(house, "chat", "chat-plain", user)
        await collector.of(last)
        await house.stop()
    assert len(collector.spans) > 50
    records = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert HEADERS_SECRET not in records
    for secret in (user.key, user.key[6:], VENDOR_KEY, PROMPT, ANSWER, user.email):
        for form in (secret.encode(), base64.b64encode(secret.encode())[:-4], secret.encode().hex().encode()):
            assert form not in collector.raw


def test_who_has_no_collector_loads_nothing_and_who_lacks_the_extra_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import sys, penstock.app; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    settings = load(
        {"PENSTOCK_DATA": str(tmp_path), "PENSTOCK_OTEL_ENDPOINT": "http://127.0.0.1:9/v1/traces"}
    ).settings
    monkeypatch.setitem(sys.modules, "penstock.operations.tracing.otlp", None)
    with pytest.raises(OperatorError, match="install the extra"):
        collector_module._span_export(settings, "boot")
    monkeypatch.delitem(sys.modules, "penstock.operations.tracing.otlp")
    wrong = msgspec.structs.replace(settings, otel_headers=("nothing",))
    with pytest.raises(OperatorError, match="NAME=VALUE"):
        collector_module._span_export(wrong, "boot")
