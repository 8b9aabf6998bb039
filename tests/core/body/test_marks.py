"""What a scanned body shows: marks, and what dialects and the estimate of tokens make of them without another search."""

import json
from typing import Any

import pytest

from penstock.core.body.envelope import Envelope, estimate_conversation, read_body, scan_body
from penstock.core.catalog import Credential, Upstream
from penstock.core.dialects.foreign_reasoning.messages import is_suspect
from penstock.core.dialects.registry import caller_side
from penstock.core.limits import key_subject
from penstock.core.reasoning.signature import MAKER_PREFIX, SIGNATURE_PREFIX

CHAT = caller_side("chat")
MESSAGES = caller_side("messages")


def scanned(caller: Any, **fields: Any) -> Envelope | None:
    body = json.dumps(
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], **fields}
    )
    return scan_body(body.encode(), caller.body, caller.body.scan)


def shown(caller: Any, **fields: Any) -> Envelope:
    found = scanned(caller, **fields)
    assert found is not None
    return found


def said(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": list(blocks)}]}


def test_marks_of_a_scanned_body() -> None:
    plain = shown(CHAT)
    assert not plain.shows(b"gw1.", b'tool_calls"')
    called = shown(CHAT, messages=[{"role": "assistant", "content": None, "tool_calls": []}])
    assert called.shows(b'tool_calls"')
    assert called.shows(b"gw1.", b'tool_calls"')
    assert not called.shows(b"gw1.")


def test_marks_of_a_body_that_went_the_long_way() -> None:
    body = b'{"model":"m","messages":[{"role":"assistant","content":"x","thinking":"gw1.x"}]}'
    long = read_body(body, CHAT.body)
    assert long.shows(b"gw1.")
    assert not long.shows(b"gwm1.", b'tool_calls"')


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ("tool_addition", False),
        ("a tool_addition", True),
        ("tool_additions are nice", False),  # the long way finds nothing in it
        ("\u00e9", True),
    ],
)
def test_what_may_bring_a_tool_goes_the_long_way(content: str, taken: bool) -> None:
    assert (scanned(CHAT, messages=[{"role": "user", "content": content}]) is not None) is taken


@pytest.mark.parametrize(("text", "taken"), [(b"t\\u006fol", False), (b"\\u005b", True)])
def test_letters_that_are_written_as_escapes(text: bytes, taken: bool) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % text
    assert (scan_body(body, CHAT.body, CHAT.body.scan) is not None) is taken


def test_what_is_attached_is_not_estimated_by_its_length() -> None:
    picture = "A" * 40_000
    address = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    with_picture = shown(CHAT, messages=[{"role": "user", "content": [address]}])
    assert estimate_conversation(with_picture) < 2000
    text = shown(CHAT, messages=[{"role": "user", "content": picture}])
    assert estimate_conversation(text) > 9000


@pytest.mark.parametrize("signature", [f"{SIGNATURE_PREFIX}x", f"{MAKER_PREFIX}x"])
def test_our_own_signatures_are_suspect_everywhere(signature: str) -> None:
    body = shown(MESSAGES, **said({"type": "thinking", "thinking": "t", "signature": signature}))
    assert is_suspect(body, checked=False)
    assert is_suspect(body, checked=True)


def test_thoughts_are_suspect_where_signatures_are_checked() -> None:
    signed = shown(MESSAGES, **said({"type": "thinking", "thinking": "t", "signature": "real"}))
    empty = shown(MESSAGES, **said({"type": "thinking", "thinking": "t", "signature": ""}))
    none = shown(MESSAGES, **said({"type": "thinking", "thinking": "t"}))
    told = shown(MESSAGES, **said({"type": "text", "text": "thinking"}))
    assert [is_suspect(body, checked=True) for body in (signed, empty, none, told)] == [
        False,
        True,
        True,
        False,
    ]
    assert not any(is_suspect(body, checked=False) for body in (signed, empty, none, told))


def test_the_secrets_of_a_provider() -> None:
    one = Upstream("p", "", (), secret="env:A")
    assert one.secrets == ("env:A",)
    several = Upstream("p", "", (), credentials=(Credential("a", "env:A"), Credential("b", "env:B")))
    assert several.secrets == ("env:A", "env:B")


def test_a_key_is_a_subject_of_its_own() -> None:
    assert key_subject("usr_1", "key_1") != key_subject("usr_1", "key_2")
