"""Both scanners: what they give, what they leave to the long way, and that they are one."""

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from bench.fuzz_scanner import EMBEDDINGS, RULES, Bodies, check, native_scanner, run
from penstock.core.body.envelope import Envelope, read_body, scan_body
from penstock.core.body.python_scanner import scan_in_python
from penstock.core.body.request_scan import TOOL_NAMES, request_rules
from penstock.core.body.scan_rules import ESCAPED, MARKS, MAX_DEPTH, Form, Member, ScanRules, Spans
from penstock.core.body.scanner import Scanner

BODIES = int(os.environ.get("PENSTOCK_TEST_BODIES", "8000"))
NATIVE = native_scanner()
SCANNERS: dict[str, Scanner] = (
    {"python": scan_in_python} if NATIVE is None else {"c": NATIVE, "python": scan_in_python}
)


@pytest.fixture(params=list(SCANNERS))
def scan(request: pytest.FixtureRequest) -> Scanner:
    return SCANNERS[request.param]


@pytest.mark.timeout(1200)  # seconds of work, minutes on a machine that has other things to do
def test_the_scanners_agree_with_each_other_and_with_the_long_way() -> None:
    tried, faults = run(seed=30, inputs=BODIES)
    assert [(fault.format, fault.reason, fault.body) for fault in faults] == []
    for name in RULES:
        assert tried[f"{name} scanned"] > tried[name] // 10, "too few pass to say anything"


def test_the_same_seed_makes_the_same_bodies() -> None:
    one, other = Bodies(7), Bodies(7)
    assert [one.make("chat") for _ in range(20)] == [other.make("chat") for _ in range(20)]


# ---- what is given


def test_the_places_of_the_wanted_members(scan: Scanner) -> None:
    body = b' {"max_tokens": 5, "model":"m" ,\n"messages":[{"role":"user"}]} '
    rules = RULES["chat"].scan
    spans = scan(body, 0, len(body), rules)
    assert spans is not None
    assert spans[:2] == (1, len(body) - 2)
    found = {name: body[spans[at] : spans[at + 1]] for name, at in rules.places.items() if spans[at]}
    assert found == {"max_tokens": b"5", "model": b'"m"', "messages": b'[{"role":"user"}]'}


def test_a_member_that_nobody_asked_for_has_no_place(scan: Scanner) -> None:
    body = b'{"user":"u","model":"m","input":"x"}'
    assert scan(body, 0, len(body), RULES["embeddings"].scan) == (0, 35, 20, 23, 32, 35, 0)


def test_a_part_of_the_data(scan: Scanner) -> None:
    body = b'{"model":"m","input":"x"}'
    rules = RULES["embeddings"].scan
    alone = scan(body, 0, len(body), rules)
    assert alone is not None
    inside = scan(b'[{"a"' + body + b'"]', 5, 5 + len(body), rules)
    assert inside == (*(offset + 5 for offset in alone[:MARKS]), alone[MARKS])
    for end in range(len(body)):
        assert scan(body, 0, end, rules) is None
        assert scan(body[:end] + b'"}' * 20, 0, end, rules) is None, "what stands behind the end is not read"


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (2, 1), (0, 4)])
def test_a_range_that_is_not_there(scan: Scanner, start: int, end: int) -> None:
    with pytest.raises(ValueError, match="outside of the data"):
        scan(b"{ }", start, end, RULES["chat"].scan)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (b'"x"', 0),
        (b'"gw1.x"', 1),
        (b'"gw1."', 1),
        (b'"gw1"', 0),
        (b'" gw1."', 0),
        (b'{"gw1.":1}', 1),
        (b'{"a":["gw1."],"end":2}', 3),
        (b'{"ends":2}', 0),
        (b'"end"', 2),
        (b'"\\\\"gw1."', None),  # the string has ended
        (b'"\\"gw1."', 0),
        (b'"\\\\\\"gw1."', 0),
        (b'"\\\\u0061"', 0),
        (b'"\\u0061"', ESCAPED),
        (b'"\\\\\\u005f"', ESCAPED),
        (b'"\\u007F"', ESCAPED),
        (b'"\\u00e9\\u0040\\n"', 0),
        (b'"gw1.\\u006f"', ESCAPED | 1),
    ],
)
def test_what_strings_begin_with(scan: Scanner, written: bytes, told: int | None) -> None:
    rules = ScanRules((Member("a"),), wanted=1, marks=(b"gw1.", b'end"'))
    body = b'{"a":%b}' % written
    spans = scan(body, 0, len(body), rules)
    assert (None if spans is None else spans[MARKS]) == told


def test_an_object_without_members(scan: Scanner) -> None:
    rules = ScanRules((Member("a"),), wanted=1)
    assert scan(b" { } ", 0, 5, rules) == (1, 3, 0, 0, 0)


def test_what_is_no_bytes_and_no_rules() -> None:
    """A mistake in a call is an error, not a fault of the program."""
    if NATIVE is None:
        return
    call: Callable[..., Spans | None] = NATIVE
    for wrong in ((b"{}", 0, 2), ("{}", 0, 2, RULES["chat"].scan), (b"{}", "0", 2, RULES["chat"].scan)):
        with pytest.raises(TypeError):
            call(*wrong)
    with pytest.raises(AttributeError):
        call(b"{}", 0, 2, None)

    class Broken:
        packed = b"\xff" * 40

    for size in range(len(RULES["responses"].scan.packed)):
        Broken.packed = RULES["responses"].scan.packed[:size]
        with pytest.raises(ValueError, match="packed"):
            call(b"{}", 0, 2, Broken)
    for packed in (b"\xff" * 40, RULES["chat"].scan.packed + b"\0"):
        Broken.packed = packed
        with pytest.raises(ValueError, match="packed"):
            call(b"{}", 0, 2, Broken)


# ---- forms

FITS: dict[Form, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {
    Form.ANY: (
        (b"null", b"[]", b'{"a":[{}]}', b"-1.5e+300", b'"\\u00e9\\ud83d\\ude00"'),
        (b"", b"[", b"nul", b"1e"),
    ),
    Form.NAME: (
        (b'"x"', b'" x "', '"é!"'.encode()),
        (b'""', b'" "', '"é"'.encode(), b'"\\u0041"', b"1", b"null"),
    ),
    Form.FLAG: ((b"true", b"false", b"null"), (b"1", b'"true"', b"[]")),
    Form.WHOLE: ((b"0", b"-0", b"-" + b"9" * 18, b"null"), (b"9" * 19, b"1.0", b"1e2", b'"1"', b"true")),
    Form.NATURAL: ((b"0", b"9" * 18, b"null"), (b"-1", b"-0", b"9" * 19, b"0.5")),
    Form.POSITIVE: ((b"1", b"9" * 18, b"null"), (b"0", b"-1", b"1.5", b"{}")),
    Form.NUMBER: (
        (b"-1", b"0.25", b"1" * 15 + b"." + b"1" * 15, b"null"),
        (b"1e1", b"1" * 16, b"0." + b"1" * 16, b"[]"),
    ),
    Form.TEMPERATURE: (
        (b"0", b"1.75", b"2", b"2.000", b"null"),
        (b"-0.1", b"2.001", b"3", b"10", b"1E0", b'"1"'),
    ),
    Form.OPTIONS: (
        (
            b"null",
            b"{}",
            b'{"include_usage":true,"x":{}}',
            b'{"include_usage":null}',
            b'{"include\\u005fusage":false}',
        ),
        (
            b"[]",
            b'{"include_usage":1}',
            b'{"include_usage":1,"include_usage":true}',
            b'{"include\\u005fusage":"x"}',
        ),
    ),
    Form.TURNS: (
        (
            b'[{"role":"user","content":"x"}]',
            b'[{"content":[],"role":""},{"x":1,"role":"a","content":null}]',
            b'[{"role":"u","content":5,"content":"x"}]',
            b'[{"r\\u006fle":"u"}]',
        ),
        (
            b"[]",
            b"null",
            b'"x"',
            b"{}",
            b"[1]",
            b"[[]]",
            b"[{}]",
            b'[{"role":1}]',
            b'[{"role":"u","content":{}}]',
            b'[{"role":"u","content":"x","content":5}]',
            b'[{"role":1,"role":"u"}]',
            b'[{"role":"u","c\\u006fntent":5}]',
        ),
    ),
    Form.ITEMS: (
        (
            b'""',
            b"[]",
            b"[{}]",
            b'[{"type":"message"},{"id":1,"type":"item_reference","type":"x"}]',
            b'[{"\\u0069d":1,"type":1}]',
        ),
        (
            b"null",
            b"1",
            b"{}",
            b"[1]",
            b'["x"]',
            b'[{"id":1}]',
            b'[{"id":1,"id":2}]',
            b'[{"id":1,"type":"item_reference"}]',
            b'[{"model":"x","type":"y"}]',
            b'[{"\\u0069d":1}]',
            b'[{"type":"x"},{"type":"x","x":[}]',
        ),
    ),
    Form.TOOLS: (
        (
            b"null",
            b"[]",
            b"{}",
            b'"x"',
            b"[1,[]]",
            b'[{"name":"x","description":"the model"}]',
            b'[{"type":"custom","name":"x"}]',
            b'[{"type":null,"function":{"model":"x"}}]',
            b'[{"type":"web_search_20260101","name":"x"}]',
            b'[{"odd":"\\u2014"}]',
            b'[{"type":"x","type":"function","name":"fallback"}]',
        ),
        (
            b'"model"',
            b'{"a":"fallback"}',
            b'[1,{"name":"the MODEL"}]',
            b'[{"type":"x","name":"model"}]',
            b'[{"model":"x"}]',
            b'[{"name":"advisor"}]',
            b'[{"name":"OpenRouter:x"}]',
            b'[{"name":"a\\u0064visor"}]',
            b'[{"name":"\\u017f"}]',
            b'[{"name":"\\u212A"}]',
            b'[{"name":"\xc5\xbf"}]',
            b'[{"name":"\xe2\x84\xaa"}]',
            b'[{"type":"function","type":"x","a":"model"}]',
        ),
    ),
    Form.TEXTS: (
        (b'"x"', b'["x",""]', b'["\\"]"]', b"[1]", b"[ 1 , 22 ]", b"[0]"),
        (
            b'""',
            b"[]",
            b"[ ]",
            b"null",
            b"5",
            b'["x",1]',
            b'[1,"x"]',
            b"[[1]]",
            b"[1.5]",
            b"[-1]",
            b"[01]",
            b'["x",null]',
            b'{"a":1}',
        ),
    ),
    Form.FILLED: ((b"[1]", b"[ [] ]"), (b"[]", b"[ \n]", b"{}", b'"x"', b"null")),
    Form.OBJECT: ((b"{}", b'{"a":1}'), (b"[]", b"null", b'"{"')),
}


def rules_of(form: Form, *, required: bool = False) -> ScanRules:
    """The rules of an object whose one member has this form."""
    found = RULES["responses"].scan
    return dataclasses.replace(found, members=(Member("a", form, required),), wanted=1)


@pytest.mark.parametrize("form", Form)
def test_a_form_and_what_has_it(scan: Scanner, form: Form) -> None:
    fit, unfit = FITS[form]
    for value in fit:
        for body in (b'{"a":%b}' % value, b'\n{ "a" :\t%b\r}' % value):
            spans = scan(body, 0, len(body), rules_of(form))
            assert spans is not None, value
            assert body[spans[2] : spans[3]] == value
    for value in unfit:
        body = b'{"a":%b}' % value
        assert scan(body, 0, len(body), rules_of(form)) is None, value


@pytest.mark.parametrize("form", Form)
def test_a_required_member_is_there_and_not_null(scan: Scanner, form: Form) -> None:
    rules = rules_of(form, required=True)
    assert scan(b"{}", 0, 2, rules) is None
    assert scan(b'{"a":null}', 0, 10, rules) is None


# ---- what goes the long way

PLAIN: dict[str, dict[str, Any]] = {
    "chat": {"model": "m", "messages": [{"role": "user", "content": "x"}]},
    "messages": {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9},
    "responses": {"model": "m", "input": "x"},
    "embeddings": {"model": "m", "input": "x"},
    "completions": {"model": "m", "prompt": "x"},
    "images": {"model": "m", "prompt": "x"},
    "moderations": {"model": "m", "input": "x"},
}


def scanned(scan: Scanner, name: str, body: bytes) -> bool:
    return scan(body, 0, len(body), RULES[name].scan) is not None


@pytest.mark.parametrize("name", RULES)
def test_the_least_body_is_taken(scan: Scanner, name: str) -> None:
    assert scanned(scan, name, json.dumps(PLAIN[name]).encode())


@pytest.mark.parametrize("name", RULES)
def test_every_row_of_the_cost_table_goes_the_long_way(scan: Scanner, name: str) -> None:
    rows = [row.name for row in RULES[name].cost.fields]
    for field in [
        *rows,
        *map(str.upper, rows),
        *(row.replace("_", "-") for row in rows),
        "x_new",
        "judge_model",
        "",
    ]:
        if field not in RULES[name].cost.ordinary:
            assert not scanned(scan, name, json.dumps({**PLAIN[name], field: "x"}).encode()), field


@pytest.mark.parametrize("name", RULES)
def test_a_name_that_is_escaped_or_there_twice(scan: Scanner, name: str) -> None:
    body = json.dumps(PLAIN[name], separators=(",", ":")).encode()
    for other in (
        body.replace(b'"model"', b'"m\\u006fdel"'),
        body[:-1] + b',"model":"m"}',
        body[:-1] + b',"model":"n"}',
        b'{"model":"mm",' + body[1:],
        body[:-1] + b',"user":"a","user":"b"}',
        b'{"user":1,' + body[1:-1] + b',"user":12}',
    ):
        assert not scanned(scan, name, other), other


@pytest.mark.parametrize(
    "value",
    [
        b'"\\ud83d"',
        b'"\\ude00"',
        b'"\\ude00\\ude00"',
        b'"\\ud83d\\u0041"',
        b'"\\u12g4"',
        b'"\\x"',
        b'"\t"',
        b'"\xff"',
        b'"\xc0\xaf"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xe2\x82"',
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"-",
        b"1e",
        b"NaN",
        b"[1,]",
        b'{"a":1,}',
        b"{,}",
        b'{"a"}',
        b'{"a":}',
        b"{1:2}",
        b'"\\',
        b'"x',
        b"[1 2]",
        b'{"a":1 "b":2}',
        b"truE",
        b"nulL",
        b"falsE",
        b"]",
        b"[}",
        b'{"a":1]',
    ],
)
def test_what_is_no_json(scan: Scanner, value: bytes) -> None:
    for body in (
        b'{"a":%b}' % value,
        b'{"a":[%b]}' % value,
        b'{"a":{"b":%b}}' % value,
        b'{"a":1,%b:1}' % value,
    ):
        assert scan(body, 0, len(body), rules_of(Form.ANY)) is None


def test_what_stands_round_the_object(scan: Scanner) -> None:
    for body in (
        b"",
        b" ",
        b"[]",
        b"{",
        b"}",
        b'{"a":1}x',
        b'{"a":1}{}',
        b"\xef\xbb\xbf{}",
        b"{}\x0c",
        b"\x0b{}",
    ):
        assert scan(body, 0, len(body), rules_of(Form.ANY)) is None


def test_so_many_values_and_not_one_more(scan: Scanner) -> None:
    body = b'{"a":[[],{"b":1,"c":"[,{"},[1,2,3]]}'
    assert scan(body, 0, len(body), dataclasses.replace(rules_of(Form.ANY), max_values=10)) is not None
    assert scan(body, 0, len(body), dataclasses.replace(rules_of(Form.ANY), max_values=9)) is None


@pytest.mark.parametrize(
    ("form", "entry"), [(Form.TURNS, b'{"role":"u"}'), (Form.ITEMS, b"{}"), (Form.TEXTS, b'"x"')]
)
def test_so_many_entries_and_not_one_more(scan: Scanner, form: Form, entry: bytes) -> None:
    rules = dataclasses.replace(rules_of(form), max_entries=3)
    for count, taken in ((3, True), (4, False)):
        body = b'{"a":[%b]}' % b",".join([entry] * count)
        assert (scan(body, 0, len(body), rules) is not None) is taken


@pytest.mark.parametrize("opened", [b"[", b'{"b":'])
def test_nesting_is_left_to_the_decoder(opened: bytes) -> None:
    for depth, taken in ((MAX_DEPTH - 1, True), (MAX_DEPTH, False)):
        closed = b"]" if opened == b"[" else b"}"
        body = b'{"a":%b1%b}' % (opened * depth, closed * depth)
        if NATIVE is not None:
            assert (NATIVE(body, 0, len(body), rules_of(Form.ANY)) is not None) is taken
    endless = b'{"a":' + opened * 100_000
    for scanner in SCANNERS.values():
        assert scanner(endless, 0, len(endless), rules_of(Form.ANY)) is None


# ---- rules


def test_no_tool_has_a_name_that_means_a_model() -> None:
    assert not [name for name in TOOL_NAMES if "model" in name or "fallback" in name]


def test_the_tables_of_all_formats_fit() -> None:
    for name, rules in RULES.items():
        made = request_rules(rules.cost, rules.scan.members[: rules.scan.wanted])
        assert {member.name for member in made.members} >= rules.cost.ordinary, name


def test_rules_that_no_scanner_takes() -> None:
    for members in (tuple(Member(f"x{at}") for at in range(65)), (Member("x" * 41),), (Member("é"),)):
        with pytest.raises(ValueError, match="names"):
            ScanRules(members, wanted=0)
    with pytest.raises(ValueError, match="words"):
        ScanRules((), wanted=0, naming=(b"ab",) * 9)
    for marks in ((b"ab",) * 17, (b"a" * 41,), (b"",), (b"a",)):
        with pytest.raises(ValueError, match="marks"):
            ScanRules((), wanted=0, marks=marks)


# ---- envelopes


def envelope_of(name: str, body: bytes) -> Envelope:
    found = scan_body(body, RULES[name], RULES[name].scan)
    assert found is not None
    return found


def test_what_the_relay_has_to_know() -> None:
    body = (
        b'{"model":"m","stream":true,"max_tokens":7,"max_completion_tokens":null,"messages":[{"role":"user"}],'
        b'"stream_options":{"include_usage":true}}'
    )
    found = envelope_of("chat", body)
    assert (found.model, found.stream, found.max_tokens, found.include_usage) == ("m", True, 7, True)
    assert found.value("max_tokens") == b"7"
    assert found.value("tools") == b""
    assert found.value("user") == b"", "not one of the wanted: looked up"
    assert found.fields.keys() == json.loads(body).keys()
    assert found.features() == frozenset()
    assert json.loads(found.usage_options()) == {"include_usage": True}
    assert envelope_of("chat", body.replace(b"null", b"3")).max_tokens == 3
    assert scan_body(body.replace(b"true", b"7"), RULES["chat"], RULES["chat"].scan) is None


def test_a_splice_touches_nothing_else() -> None:
    body = b' { "messages" : [{"role":"user"}],\n"model" : "m", "stream_options":{} }\n'
    found = envelope_of("chat", body)
    assert found.encode("m") is body
    assert found.encode("other") == body.replace(b'"m"', b'"other"')
    changed = found.encode("other", {"tools": b"[]", "messages": b"[1]", "stream_options": b"null"})
    assert changed == (b' { "messages" : [1],\n"model" : "other", "stream_options":null ,"tools":[]}\n')
    assert found.encode("m", {"tools": b"[]"}) == body.replace(b"}\n", b',"tools":[]}\n')


def test_what_no_span_is_known_of_is_encoded() -> None:
    found = envelope_of("messages", json.dumps({**PLAIN["messages"], "system": "s"}).encode())
    assert json.loads(found.encode("other", drop=("max_tokens",))).keys() == {"model", "messages", "system"}
    assert json.loads(found.encode("m", {"system": b"[]"}))["system"] == []


@pytest.mark.parametrize("body", EMBEDDINGS, ids=str)
def test_embeddings_are_estimated_as_the_long_way_does(body: dict[str, Any]) -> None:
    sent = json.dumps(body).encode()
    long = read_body(sent, RULES["embeddings"])
    found = scan_body(sent, RULES["embeddings"], RULES["embeddings"].scan)
    assert found is None or found.estimate_input() == long.estimate_input()


def test_what_breaks_the_contract_is_found() -> None:
    """The check itself: a scanner that takes what the long way refuses would be noticed."""
    rules = RULES["messages"]
    body = json.dumps({**PLAIN["messages"], "temperature": "hot"}).encode()
    loose = request_rules(rules.cost, rules.scan.members[: rules.scan.wanted])
    with pytest.raises(Exception, match="temperature"):
        check(body, rules, loose)
    assert check(body, dataclasses.replace(rules, check=lambda _fields, _counting: (9, True)), loose)
