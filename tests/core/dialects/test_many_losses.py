"""A request in which very much cannot be carried: no more is gathered than can be told, and the work is that of a small one."""

import json
from typing import Any

import pytest

from penstock.core.body.cost_fields import CostBounds
from penstock.core.body.envelope import bounded, read_body
from penstock.core.dialects.interface import Prepared
from penstock.core.dialects.prepare import prepare, translation_header
from penstock.core.endpoints import ENDPOINTS
from penstock.core.neutral.request import MOST_LOSSES
from penstock.core.profile import Profile
from penstock.errors import InvalidRequest

RULES = {row.name: row.caller.body for row in ENDPOINTS if row.side is not None}
MANY = 20_000
UNKNOWN = {f"k{at}": at for at in range(MANY)}
LANES = [(caller, upstream) for caller in RULES for upstream in RULES if caller != upstream]
lanes = pytest.mark.parametrize(("caller", "upstream"), LANES)


def body(dialect: str, fields: dict[str, Any], message: dict[str, Any]) -> bytes:
    messages = [{"role": "user", "content": "x", **message}]
    plain: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": messages}
    if dialect == "responses":
        plain = {"model": "m", "input": messages, "store": False}
    return json.dumps({**fields, **plain}).encode()


def prepared(caller: str, upstream: str, sent: bytes, *, strict: bool = False) -> Prepared:
    envelope = bounded(read_body(sent, RULES[caller]), CostBounds({"m"}.__contains__, 1))
    return prepare(envelope, caller=caller, upstream=upstream, model="up", profile=Profile(), strict=strict)


@lanes
def test_of_many_unknown_fields_as_many_are_gathered_as_can_be_told(caller: str, upstream: str) -> None:
    many = prepared(caller, upstream, body(caller, UNKNOWN, {}))
    assert len(many.losses) <= MOST_LOSSES
    told = translation_header(many.losses)
    assert told.startswith("k0=dropped; k1=dropped")
    assert told.endswith("more")
    assert many.body == prepared(caller, upstream, body(caller, {}, {})).body
    with pytest.raises(InvalidRequest, match="k0=dropped"):
        prepared(caller, upstream, body(caller, UNKNOWN, {}), strict=True)


@lanes
def test_so_it_is_with_fields_of_messages(caller: str, upstream: str) -> None:
    many = prepared(caller, upstream, body(caller, {}, UNKNOWN))
    assert len(many.losses) <= MOST_LOSSES
    assert many.body == prepared(caller, upstream, body(caller, {}, {})).body


@pytest.mark.parametrize(("caller", "upstream"), [*LANES, *((name, name) for name in RULES)])
def test_so_it_is_with_what_is_left_out_because_it_costs_more(caller: str, upstream: str) -> None:
    dear = {f"rou{'_' * at}te": "fallback" for at in range(2000)}
    many = prepared(caller, upstream, body(caller, dear, {}))
    assert 40 < len(many.losses) <= 2 * MOST_LOSSES
    assert many.body == prepared(caller, upstream, body(caller, {}, {})).body


def test_what_is_refused_is_refused_behind_any_number_of_unknown_fields() -> None:
    with pytest.raises(InvalidRequest, match="tool_choice"):
        prepared("messages", "chat", body("messages", UNKNOWN | {"tool_choice": {"type": "tool"}}, {}))
    with pytest.raises(InvalidRequest, match="audio"):
        prepared("chat", "messages", body("chat", UNKNOWN | {"audio": {"voice": "x"}}, {}))
