"""Metrics of what providers are asked go to a collector by OTLP: every attempt, by the conventions' names and buckets."""

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import OperatorError
from penstock.operations.tracing import client_metrics
from penstock.operations.tracing import collector as collector_module
from penstock.operations.tracing.client_metrics import SECOND_BOUNDS, TOKEN_BOUNDS, Asked, ClientMetrics
from penstock.settings import load
from tests.service.collector import Collector, collecting
from tests.service.conversations import DIALECTS, FRAMES
from tests.service.running_service import House, open_house
from tests.service.scripted import Asked as AskedThere
from tests.service.test_routing import refusing, well

TOKENS = "gen_ai.client.token.usage"
DURATION = "gen_ai.client.operation.duration"
FIRST = "gen_ai.client.operation.time_to_first_chunk"


@asynccontextmanager
async def measured(tmp_path: Path, **more: Any) -> AsyncGenerator[tuple[House, Collector]]:
    async with collecting() as collector:
        endpoint = collector.url.replace("traces", "metrics")
        given = {"otel_metrics_endpoint": endpoint, "otel_metrics_seconds": 0.05, **more}
        async with open_house(tmp_path / "data", **given) as house:
            yield house, collector


def of(collector: Collector, name: str, **labels: str) -> Any:
    """The point of a metric with these labels, and others besides."""
    wanted = {f"gen_ai.{key}".replace("__", "."): value for key, value in labels.items()}
    found = [point for told, point in collector.metrics.get(name, []) if wanted.items() <= told.items()]
    (point,) = found
    return point


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_attempt_is_counted_with_what_it_took_and_used(tmp_path: Path, dialect: str) -> None:
    async with measured(tmp_path) as (house, collector):
        user = await house.user()
        well(house, dialect)
        house.wires[f"wire-{dialect}"].script = refusing(403, "canary-words")
        await house.ask(dialect, f"pair-{dialect}", user)
        await house.ask(dialect, f"pair-{dialect}", user, stream=True)
        rows = await house.rows(user)
        await house.stop()
    first, second = rows
    parts = ("input_tokens", "cache_read_tokens", "cache_write_tokens")
    vendor = {"chat": "custom", "messages": "anthropic"}[dialect]
    for kind, sums in (
        ("input", [sum(row[part] or 0 for part in parts) for row in rows]),
        ("output", [row["output_tokens"] for row in rows]),
    ):
        point = of(collector, TOKENS, token__type=kind, provider__name=vendor, operation__name="chat")
        assert (point.count, point.sum) == (2, sum(sums))
        assert (point.min, point.max) == (min(sums), max(sums))
        assert tuple(point.explicit_bounds) == TOKEN_BOUNDS == tuple(4.0**power for power in range(14))
        for value in sums:
            assert point.bucket_counts[next(at for at, most in enumerate(TOKEN_BOUNDS) if value <= most)]
    durations = {
        (told.get("error.type", ""), told["gen_ai.request.model"]): point.count
        for told, point in collector.metrics[DURATION]
    }
    up = f"up-{dialect}"
    assert durations[("", up)] == 2
    assert durations[("auth", up)] >= 1, "a failed attempt is one, too"
    (point,) = [point for told, point in collector.metrics[DURATION] if "error.type" not in told]
    assert tuple(point.explicit_bounds) == SECOND_BOUNDS
    assert (SECOND_BOUNDS[0], SECOND_BOUNDS[-1], len(SECOND_BOUNDS)) == (0.01, 81.92, 14)
    ((_, point),) = collector.metrics[FIRST]
    assert point.count == 1, "of streams alone"
    assert 0 <= point.sum < 60
    assert first["id"] != second["id"]
    for secret in (user.id, first["key_id"], "canary-words", "hello"):
        assert secret.encode() not in collector.raw
    assert collector.spans == []


async def test_what_was_cut_or_left_is_told_by_its_failure(tmp_path: Path) -> None:
    async with measured(tmp_path) as (house, collector):
        user = await house.user()

        def cut(asked: AskedThere) -> None:
            asked.begin(*FRAMES["chat"][:-2])
            asked.cut()

        house.wires["wire-chat"].script = cut
        await house.ask("chat", "wire-chat", user, stream=True)
        caller = await house.begin("chat", "chat-hang", user)
        caller.leave()
        await house.row(user, of=2)
        await house.stop()
    failures = {told.get("error.type") for told, _ in collector.metrics[DURATION]}
    assert failures == {"broken", "gone"}


async def test_a_collector_that_is_away_gets_all_of_it_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with measured(tmp_path) as (house, collector):
        user = await house.user()
        collector.status = 400
        await house.ask("chat", "chat-plain", user)
        await house.rows(user)
        await collector.asked()
        assert collector.metrics == {}
        collector.status = 200
        await house.ask("chat", "chat-plain", user)
        await house.rows(user)
        await house.stop()
    assert sum(point.count for _, point in collector.metrics[DURATION]) == 2
    assert "the collector does not take metrics" in caplog.text


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_metrics, "_MOST_SERIES", 3)
    metrics = ClientMetrics(lambda provider: provider, 60.0)
    for number in range(10):
        metrics.took(Asked("chat", "p", f"m{number}"), 100.0, None, "")
    told = metrics.told()
    assert [dict(it.labels)["gen_ai.request.model"] for it in told] == ["m0", "m1", "m2", "other"]
    assert (told[-1].counts[-1], told[-1].sum) == (7, 700.0)


def test_without_it_nothing_of_it_is_loaded_and_wrong_settings_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys, penstock.app; sys.exit('opentelemetry' in str(list(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    settings = load(
        {
            "PENSTOCK_DATA": str(tmp_path),
            "PENSTOCK_OTEL_METRICS_ENDPOINT": "http://127.0.0.1:4318/v1/metrics",
        }
    ).settings
    monkeypatch.setitem(sys.modules, "penstock.operations.tracing.otlp_metrics", None)
    with pytest.raises(OperatorError, match="otel_metrics_endpoint"):
        collector_module._metrics_export(settings, "boot")
