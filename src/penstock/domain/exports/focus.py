"""FOCUS 1.3: receipts as rows of usage in the columns of the FinOps Open Cost and Usage Specification.

A row is what one request has used of one class that providers price by itself: tokens in, out, read from and written to a
cache, and the rarer ones. What is not known is empty, and costs are: no row claims what a provider will bill.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from penstock.core.quoting import csv_cell
from penstock.domain.exports.receipt import ExportedReceipt

_METERS: Final = {
    "input_tokens": "Input Tokens",
    "output_tokens": "Output Tokens",
    "cache_read_tokens": "Cache Read Tokens",
    "cache_write_tokens": "Cache Write Tokens",
}
_RUNS: Final = {
    "web_searches": "Web Searches",
    "web_fetches": "Web Fetches",
    "code_runs": "Code Runs",
    "file_searches": "File Searches",
    "other_tool_runs": "Other Tool Runs",
}
"""The rarer classes that are no part of the tokens above."""
_COLUMNS: Final = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost", "HostProviderName", "InvoiceIssuerName",
    "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName",
    "ServiceProviderName", "ServiceSubcategory", "SkuId", "SkuMeter", "SubAccountId", "SubAccountName",
    "x_PenstockRequestId", "x_PenstockKeyId", "x_PenstockModel", "x_PenstockOutcome", "x_PenstockEstimated",
)  # fmt: skip


def focus_rows(receipts: Sequence[ExportedReceipt]) -> bytes:
    """The rows of these receipts, without the head; none of one that has used nothing."""
    return _written([row for each in receipts for row in _rows(each)])


def _rows(receipt: ExportedReceipt) -> Iterator[list[object]]:
    for name, meter in _METERS.items():
        if quantity := getattr(receipt, name):
            yield _row(receipt, meter, quantity, "Tokens")
    for name, meter in _RUNS.items():
        if quantity := receipt.special.get(name):
            yield _row(receipt, meter, quantity, "Runs")


def _row(receipt: ExportedReceipt, meter: str, quantity: int, unit: str) -> list[object]:
    began = datetime.fromtimestamp(receipt.created_at // 1000, UTC)
    lasted = -(-(receipt.total_ms or 0) // 1000)
    ended = datetime.fromtimestamp(receipt.created_at // 1000 + max(1, lasted), UTC)
    month = began.replace(day=1, hour=0, minute=0, second=0)
    next_month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    provider, model = receipt.provider, receipt.upstream_model
    payer = provider if receipt.credential is None else f"{provider}/{receipt.credential}"
    told: dict[str, object] = {
        "BillingAccountId": payer,
        "BillingAccountName": payer,
        "BillingPeriodStart": _moment(month),
        "BillingPeriodEnd": _moment(next_month),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{meter} of {model}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _moment(began),
        "ChargePeriodEnd": _moment(ended),
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "HostProviderName": provider,
        "InvoiceIssuerName": provider,
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "ProviderName": provider,
        "PublisherName": provider,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": provider,
        "ServiceProviderName": provider,
        "ServiceSubcategory": "Generative AI",
        "SkuId": f"{provider}/{model}/{meter}",
        "SkuMeter": meter,
        "SubAccountId": receipt.account,
        "SubAccountName": receipt.account,
        "x_PenstockRequestId": receipt.id,
        "x_PenstockKeyId": receipt.key,
        "x_PenstockModel": receipt.model,
        "x_PenstockOutcome": receipt.outcome or "",
        "x_PenstockEstimated": "true" if receipt.estimated else "false",
    }
    return [csv_cell(told.get(name, "")) for name in _COLUMNS]


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _written(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


FOCUS_HEAD: Final = _written([_COLUMNS])
