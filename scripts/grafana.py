"""Print the dashboard ``deploy/grafana/penstock.json``: rows of panels, each a query over the metrics of ``/metrics``.

    .venv/bin/python scripts/grafana.py > deploy/grafana/penstock.json

A test holds the file to this table, and every name in a query to what a server really says.
"""

import json

ROWS = (
    (
        "Traffic",
        (
            ("Answers a second by status", "reqps", "sum by (status) (rate(penstock_requests_total[5m]))", "{{status}}"),
            ("Running now", "short", "sum(penstock_running)", "running"),
            ("Relayed a second by model", "reqps", "sum by (model) (rate(penstock_relayed_total[5m]))", "{{model}}"),
            ("Tokens a second by class", "short", "sum by (kind) (rate(penstock_tokens_total[5m]))", "{{kind}}"),
        ),
    ),
    (
        "Failures, by whose they are",
        (
            ("Ours: share of 500 and 503", "percentunit",
             'sum(rate(penstock_requests_total{status=~"500|503"}[5m])) / sum(rate(penstock_requests_total[5m]))', "ours"),
            ("Providers': share of 502", "percentunit",
             'sum(rate(penstock_requests_total{status="502"}[5m])) / sum(rate(penstock_requests_total[5m]))', "providers"),
            ("Callers': refused a second", "reqps",
             'sum by (status) (rate(penstock_requests_total{status=~"4.."}[5m]))', "{{status}}"),
            ("Failed attempts by provider and cause", "reqps",
             "sum by (provider, code) (rate(penstock_upstream_failures_total[5m]))", "{{provider}} {{code}}"),
        ),
    ),
    (
        "Latency",
        (
            ("First byte: half are faster", "s",
             "histogram_quantile(0.5, sum by (le, model) (rate(penstock_first_byte_seconds_bucket[5m])))", "{{model}}"),
            ("First byte: 95 of 100 are faster", "s",
             "histogram_quantile(0.95, sum by (le, model) (rate(penstock_first_byte_seconds_bucket[5m])))", "{{model}}"),
        ),
    ),
    (
        "Providers",
        (
            ("Relayed by provider and outcome", "reqps",
             "sum by (provider, outcome) (rate(penstock_relayed_total[5m]))", "{{provider}} {{outcome}}"),
            ("Answers by another model", "short",
             "sum by (provider) (increase(penstock_answers_by_another_model_total[1h]))", "{{provider}}"),
            ("First content: 95 of 100 are faster", "s",
             "histogram_quantile(0.95, sum by (le, provider) (rate(penstock_upstream_first_content_seconds_bucket[5m])))",
             "{{provider}}"),
            ("Attempts by how they have failed", "reqps",
             "sum by (provider, class) (rate(penstock_upstream_attempts_total[5m]))", "{{provider}} {{class}}"),
        ),
    ),
    (
        "Choice",
        (
            ("Why a provider was asked", "reqps", "sum by (reason) (rate(penstock_choices_total[5m]))", "{{reason}}"),
            ("Further attempts by the failure before", "reqps",
             "sum by (class) (rate(penstock_failovers_total[5m]))", "{{class}}"),
            ("Conversations at their own provider, or why not", "reqps",
             "sum by (result) (rate(penstock_affinity_total[5m]))", "{{result}}"),
            ("Tokens read from providers' caches", "short",
             "sum by (provider) (rate(penstock_cached_tokens_total[5m]))", "{{provider}}"),
        ),
    ),
    (
        "Places and limits",
        (
            ("Attempts that run", "short", "sum by (provider) (penstock_upstream_inflight)", "{{provider}}"),
            ("How many may run at once", "short",
             "sum by (provider, model) (penstock_upstream_limit)", "{{provider}} {{model}}"),
            ("What is left of providers' limits", "percentunit",
             "min by (provider, kind) (penstock_upstream_headroom_ratio)", "{{provider}} {{kind}}"),
            ("Waiting for a place: 95 of 100 are faster", "s",
             "histogram_quantile(0.95, sum by (le, model, result) (rate(penstock_queue_seconds_bucket[5m])))",
             "{{model}} {{result}}"),
        ),
    ),
    (
        "What is out",
        (
            ("Providers' models by their state", "short", "sum by (state) (penstock_upstream_state)", "{{state}}"),
            ("Left out by another process's word", "short",
             "sum by (provider, model) (penstock_upstream_hinted)", "{{provider}} {{model}}"),
            ("Asked of another beside one that was out", "short",
             "sum by (provider, result) (increase(penstock_hedges_total[1h]))", "{{provider}} {{result}}"),
            ("Tokens for second attempts", "short", "min by (model) (penstock_retry_tokens)", "{{model}}"),
        ),
    ),
    (
        "House",
        (
            ("Parts that work", "short", "min by (part) (penstock_part_up)", "{{part}}"),
            ("Failures of parts in an hour", "short", "sum by (part) (increase(penstock_part_failures_total[1h]))", "{{part}}"),
            ("Settlements owed to the database", "short", "sum(penstock_settlements_owed)", "owed"),
            ("Numbers that differ from the ledger", "short", "max(penstock_ledger_differences)", "differences"),
        ),
    ),
    (
        "What goes out",
        (
            ("Messages that wait", "short", "max by (kind) (penstock_outbox_due)", "{{kind}}"),
            ("The oldest of them", "s", "max by (kind) (penstock_outbox_oldest_seconds)", "{{kind}}"),
            ("Exports: behind by", "s", "max by (destination) (penstock_export_lag_seconds)", "{{destination}}"),
        ),
    ),
)  # fmt: skip
"""Each row: its title, and its panels: title, unit, query, and what a line is called."""

WIDTH, HEIGHT = 6, 8
SOURCE = {"type": "prometheus", "uid": "${source}"}


def dashboard() -> dict[str, object]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, object]] = []
    y = 0
    for title, row in ROWS:
        place = {"h": 1, "w": 24, "x": 0, "y": y}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        y += 1
        width = 24 // len(row)
        for at, (name, unit, query, legend) in enumerate(row):
            panels.append(
                {
                    "id": len(panels) + 1,
                    "type": "timeseries",
                    "title": name,
                    "datasource": SOURCE,
                    "gridPos": {"h": HEIGHT, "w": width, "x": at * width, "y": y},
                    "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                    "targets": [{"refId": "A", "datasource": SOURCE, "expr": query, "legendFormat": legend}],
                }
            )
        y += HEIGHT
    choice = {
        "name": "source",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }
    return {
        "title": "Penstock",
        "uid": "penstock",
        "tags": ["penstock"],
        "timezone": "utc",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [choice]},
        "panels": panels,
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
