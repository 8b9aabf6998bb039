"""The dashboard and the alerts ask for metrics and labels that a server really tells."""

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.core.catalog import Model, Target, Upstream
from penstock.core.endpoints import FORMATS
from penstock.core.routing.board import Board
from penstock.core.routing.bounds.rate_headers import Amount
from penstock.core.routing.candidates import Upstreams
from penstock.core.routing.health import Health as Routing
from penstock.operations.health import Health
from penstock.operations.metrics import Metrics
from penstock.operations.upstreams import UpstreamFailures, upstream_metrics

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "penstock.json"
ALERTS = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8")

_SELECTED = re.compile(r"\b(penstock_\w+)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"by \(([^)]*)\)")


def told() -> dict[str, set[str]]:
    """Every series of a server that has done everything once: its name, and its labels."""
    health = Health({"database": lambda: None}, owed=lambda: 1)
    health.differences = 0
    metrics = Metrics(health)
    metrics.export_lags, metrics.outbox = {"lake": 0.0}, {"mail": (0, 0.0)}
    metrics.answered("chat", 200)
    metrics.upstream_failed("p", "provider_cut")
    metrics.entered()
    metrics.settled(
        "m",
        "p",
        "completed",
        input_tokens=1,
        output_tokens=1,
        first_byte=0.1,
        first_content=0.1,
        reason="sticky",
        cached_tokens=1,
        by_another_model=True,
    )
    metrics.failed_over("p", "q", "broken")
    metrics.queued("m", 0.1, served=True)
    metrics.hedged("p", works=True)
    metrics.more = lambda: upstream_metrics(*known_upstream(), 0.0)
    found: dict[str, set[str]] = {}
    for family in metrics.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def known_upstream() -> tuple[Routing, UpstreamFailures, dict[str, Model]]:
    """An upstream with a limit, of which everything is known."""
    model = Model("m", "M", targets=(Target("p", "up", in_flight=2),))
    rows = Upstreams((Upstream("p", "custom", (("chat", "https://p/v1"),)),))
    routing = Routing()
    board = Board(rows.group(model, "chat", FORMATS), routing)
    known = board.health_of(board.group.tiers[0].candidates[0])
    known.headroom.note((Amount("requests", 100.0, 50.0),), 0.0)
    return routing, UpstreamFailures(lambda: 0.0), {"m": model}


TOLD = told()


def queries() -> Iterator[tuple[str, str]]:
    """Every query: where it stands, and its text."""
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", ()))
    for rule in ALERTS.split("- alert: ")[1:]:
        name, rest = rule.split("\n", 1)
        expression = rest.split("expr:", 1)[1].split("labels:", 1)[0].split("\n        for:", 1)[0]
        yield name, expression.replace(">-", "")


@pytest.mark.parametrize(("place", "query"), list(queries()))
def test_a_query_asks_for_what_is_told(place: str, query: str) -> None:
    selected = _SELECTED.findall(query)
    assert selected, place
    known: set[str] = {"le"}
    for name, matchers in selected:
        assert name in TOLD, f"{place}: no metric {name}"
        known |= TOLD[name]
        for matcher in filter(None, matchers.split(",")):
            assert re.split(r"=~|!=|!~|=", matcher)[0].strip() in TOLD[name], f"{place}: {matcher}"
    for labels in _GROUPED.findall(query):
        assert {label.strip() for label in labels.split(",")} <= known, place


def test_every_metric_is_on_the_dashboard_or_an_alert() -> None:
    asked = {name for _, query in queries() for name, _ in _SELECTED.findall(query)}
    families = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in TOLD}
    covered = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in asked}
    assert families - covered <= {"penstock_scanner_info"}


def test_the_dashboard_is_what_its_script_prints() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "grafana.py"))["dashboard"]()
    assert json.loads(DASHBOARD.read_text("utf-8")) == made


def test_every_alert_says_what_to_do_and_is_on_the_page() -> None:
    page = (ROOT / "docs" / "operations" / "monitoring.md").read_text("utf-8")
    rules = ALERTS.split("- alert: ")[1:]
    for rule in rules:
        assert "runbook:" in rule
        assert "summary:" in rule
        assert f"`{rule.splitlines()[0]}`" in page
    assert page.count("| `Penstock") == len(rules)
