"""The table of dialects, the lane a request takes, what is told of losses, and that the page says what the code does."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.dialects.losses import LOSSES, OTHER_FIELDS, OTHER_MESSAGE_FIELDS, LossRow, losses_table
from penstock.core.dialects.prepare import prepare, translation_header
from penstock.core.dialects.registry import DIALECTS, caller_side, read_envelope
from penstock.core.neutral.request import Loss
from penstock.core.profile import Profile
from penstock.core.reasoning.signature import ReasoningOrigin, sign_reasoning
from penstock.errors import InvalidRequest

ROOT = Path(__file__).parents[3]
NATIVE = Profile(native_anthropic=True)


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def messages(*rows: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 9, "messages": list(rows), **fields}).encode()


def test_each_dialect_answers_to_its_name() -> None:
    assert all(dialect.name == name for name, dialect in DIALECTS.items())
    assert {"chat", "messages", "responses"} <= set(DIALECTS)


# ---- the same dialect


def test_the_same_dialect_is_bytes() -> None:
    body = chat(stream=True, stream_options={"include_usage": True}, seed=1, brand_new={"x": [1.0]})
    assert (
        prepare(
            read_envelope(body, "chat"), caller="chat", upstream="chat", model="m", profile=Profile()
        ).body
        is body
    )
    prepared = prepare(
        read_envelope(body, "chat"),
        caller="chat",
        upstream="chat",
        model="up",
        profile=Profile(),
        strict=True,
    )
    assert json.loads(prepared.body) == {**json.loads(body), "model": "up"}
    assert prepared.losses == ()
    body = messages({"role": "user", "content": "hi"}, context_management={"edits": []}, stream=True)
    assert (
        prepare(
            read_envelope(body, "messages"), caller="messages", upstream="messages", model="m", profile=NATIVE
        ).body
        is body
    )


def test_usage_is_always_asked_for_in_a_chat_stream() -> None:
    def options(profile: Profile, **fields: Any) -> Any:
        envelope = read_envelope(chat(**fields), "chat")
        out = prepare(envelope, caller="chat", upstream="chat", model="m", profile=profile).body
        return json.loads(out).get("stream_options")

    assert options(Profile(), stream=True) == {"include_usage": True}
    assert options(Profile(), stream=True, stream_options={"x": 1}) == {"x": 1, "include_usage": True}
    assert options(Profile(), stream=False) is None
    assert options(Profile(stream_options=False), stream=True) is None


def test_thoughts_of_other_models_do_not_go_to_anthropic() -> None:
    ours = {"type": "thinking", "thinking": "hm", "signature": sign_reasoning(ReasoningOrigin("deepseek"))}
    theirs = {"type": "thinking", "thinking": "", "signature": "EuSig"}
    quoted = {"type": "text", "text": 'the signature "gw1.x" is ours'}
    rows = [
        {"role": "user", "content": 'what is "gw1.?'},
        {"role": "assistant", "content": [ours, theirs, quoted]},
        {"role": "user", "content": [quoted]},
        {"role": "assistant", "content": [ours]},
    ]
    envelope = read_envelope(messages(*rows), "messages")
    prepared = prepare(envelope, caller="messages", upstream="messages", model="m", profile=NATIVE)
    kept = [rows[0], {"role": "assistant", "content": [theirs, quoted]}, rows[2]]
    assert json.loads(prepared.body)["messages"] == kept
    assert translation_header(prepared.losses) == "messages.thinking=dropped"
    other = prepare(envelope, caller="messages", upstream="messages", model="m", profile=Profile())
    assert other.body is envelope.body
    without = read_envelope(messages(rows[0], rows[2]), "messages")
    assert (
        prepare(without, caller="messages", upstream="messages", model="m", profile=NATIVE).body
        is without.body
    )


# ---- what is told


def test_losses_are_told_once_in_the_callers_words() -> None:
    body = messages(
        {"role": "user", "content": "hi"},
        metadata={"user_id": "u"},
        output_config={"effort": "high"},
        speed="fast",
    )
    profile = Profile(user_field="none", reasoning_effort=False)
    prepared = prepare(
        read_envelope(body, "messages"), caller="messages", upstream="chat", model="m", profile=profile
    )
    assert translation_header(prepared.losses) == (
        "speed=dropped; output_config.effort=dropped; metadata.user_id=dropped"
    )


def test_strict_refuses_the_first_loss_by_name() -> None:
    envelope = read_envelope(chat(seed=1, temperature=1.7), "chat")
    with pytest.raises(InvalidRequest) as caught:
        prepare(envelope, caller="chat", upstream="messages", model="m", profile=Profile(), strict=True)
    assert caught.value.param == "seed"
    assert "seed=dropped" in caught.value.message
    prepare(
        read_envelope(chat(temperature=0.7), "chat"),
        caller="chat",
        upstream="messages",
        model="m",
        profile=Profile(),
        strict=True,
    )


@given(st.lists(st.builds(Loss, field=st.text(max_size=200), outcome=st.text(max_size=90)), max_size=60))
def test_a_header_is_printable_and_bounded_whatever_a_caller_names_a_field(losses: list[Loss]) -> None:
    value = translation_header(losses)
    assert re.fullmatch(r"[ -~]*", value)
    assert len(value) < 7000


# ---- the table


def reported(pattern: str) -> dict[str, set[str]]:
    """Every field and outcome that the modules of a dialect report, read from their source."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "src/penstock/core/dialects").glob(pattern):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
                "lose",
                "Loss",
            ):
                outcomes = (_literal(node.args[1]) or [""]) if len(node.args) > 1 else ["dropped"]
                for field in _literal(node.args[0]):
                    found.setdefault(field, set()).update(outcomes)
    return found


def _literal(node: ast.expr) -> list[str]:
    match node:
        case ast.Constant(value=str(value)):
            return [value]
        case ast.IfExp(body=yes, orelse=no):
            return [*_literal(yes), *_literal(no)]
        case _:
            return []


def rows(caller: str, upstream: str) -> list[LossRow]:
    return [row for row in LOSSES if (row.caller, row.upstream) == (caller, upstream)]


# what the writers can tell of others, but a caller of this dialect has no way to send
NEVER_SENT = {"responses": {"top_k", "stop", "thinking.budget_tokens", "system.billing_header"}}


@pytest.mark.parametrize(
    ("caller", "upstream", "sources"),
    [
        ("chat", "messages", ("chat/decode_request.py", "messages/encode_request.py")),
        (
            "messages",
            "chat",
            ("messages/decode_request.py", "chat/encode_request.py", "openai/encode_request.py"),
        ),
        (
            "responses",
            "any",
            (
                "responses/conversation_reader.py",
                "responses/decode_request.py",
                "responses/tools.py",
                "chat/encode_request.py",
                "openai/encode_request.py",
                "messages/encode_request.py",
            ),
        ),
        ("any", "responses", ("responses/encode_request.py", "openai/encode_request.py")),
    ],
)
def test_whatever_the_code_reports_is_in_the_table(
    caller: str, upstream: str, sources: tuple[str, ...]
) -> None:
    table = {(row.field, row.told) for row in rows(caller, upstream)}
    fields = {row.field for row in rows(caller, upstream)}
    checked = 0
    for source in sources:
        for name, outcomes in reported(source).items():
            if name in NEVER_SENT.get(caller, ()):
                continue
            field = caller_side(caller).words.get(name, name) if caller in DIALECTS else name
            for outcome in outcomes:
                assert (field, outcome) in table if outcome else field in fields, (source, field, outcome)
                checked += 1
    assert checked > 13


def test_no_row_is_there_twice() -> None:
    keys = [(row.caller, row.upstream, row.field, row.outcome, row.told) for row in LOSSES]
    assert len(set(keys)) == len(keys)
    assert {row.field for row in LOSSES} >= {OTHER_FIELDS, OTHER_MESSAGE_FIELDS}
    assert all((row.outcome == "refused") == (row.told == "") for row in LOSSES)


PAGES = ("docs/translation.md", "src/penstock/site/docs/translation.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_show_the_table(page: str) -> None:
    """``scripts/translation.py`` writes them."""
    text = (ROOT / page).read_text("utf-8")
    assert losses_table(text) == text
    first = f"| `{LOSSES[0].field}` | "
    damaged = text.replace(first, "| `other` | ", 1)
    assert losses_table(damaged) == text != damaged
    with pytest.raises(ValueError, match="no section"):
        losses_table("# Translation")


def test_the_pages_say_the_same_of_every_field() -> None:
    # scripts/translation.py makes it so
    first, second = ((ROOT / page).read_text("utf-8").partition("\n## Chat callers")[2] for page in PAGES)
    assert first == second != ""
