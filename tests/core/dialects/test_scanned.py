"""What a scanner finds in a request of each dialect is what the long way reads."""

import pytest

from penstock.core.body.envelope import read_body, scan_body
from penstock.core.dialects.registry import caller_side

BODIES = {
    "chat": b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":7,"stream":true}',
    "messages": b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":7,"stream":true}',
    "responses": b'{"model":"m","input":"hi","max_output_tokens":7,"stream":true}',
}


@pytest.mark.parametrize("dialect", BODIES)
def test_the_same_is_read(dialect: str) -> None:
    rules, body = caller_side(dialect).body, BODIES[dialect]
    scanned, long = scan_body(body, rules, rules.scan), read_body(body, rules)
    assert scanned is not None
    assert (scanned.model, scanned.stream, scanned.max_tokens) == ("m", True, 7)
    assert (long.model, long.stream, long.max_tokens) == ("m", True, 7)
    assert scanned.include_usage == long.include_usage
    assert scanned.encode("other") == body.replace(b'"m"', b'"other"')


def test_flat_tools_go_the_long_way_which_nests_them() -> None:
    tool = b'{"name":"x","input_schema":{"type":"object"}}'
    rules, body = caller_side("chat").body, BODIES["chat"][:-1] + b',"tools":[%b]}' % tool
    assert scan_body(body, rules, rules.scan) is None
    made = read_body(body, rules).value("tools")
    assert made == b'[{"type":"function","function":{"name":"x","parameters":{"type":"object"}}}]'
