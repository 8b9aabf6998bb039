"""Foreign reasoning in a Messages body: thoughts that the upstream cannot read are left out, or lose their signature.

Anthropic checks every signature, wherever it stands. Other vendors check none, but want no mark of ours either. All that
stays is byte for byte as the caller wrote it, because prompt caches and preserved thinking depend on it.
"""

import re
from collections.abc import Callable

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import Envelope
from penstock.core.body.splice import replace_known
from penstock.core.dialects.interface import Relieved
from penstock.core.neutral.request import Loss
from penstock.core.reasoning.signature import MAKER_PREFIX, SIGNATURE_PREFIX, is_ours
from penstock.core.sse import parse_frame, split_whole

LEFT_OUT = Loss("messages.thinking", "dropped")
UNSIGNED = Loss("messages.thinking", "unsigned")
REDACTED = Loss("messages.redacted_thinking", "dropped")
DISABLED = Loss("thinking", "disabled")
RESULTS = Loss("messages.server_tools", "dropped")

_THINKING = (b'"type":"thinking"', b'"type": "thinking"')
_OURS = (SIGNATURE_PREFIX.encode(), MAKER_PREFIX.encode())
_UNSIGNED = (b'signature":""', b'signature": ""', b'signature":null', b'signature": null')
_THOUGHT = b'thinking"'
MARKS = (*_OURS, *_UNSIGNED, _THOUGHT)
"""What strings begin with in a body that may hold thoughts."""
_SEALED = "encrypted_"
"""In a refusal: what cannot be read is of a search's results."""
_PLACE = re.compile(r"messages\.(\d+)\.content\.\d+")

_rows = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_blocks = msgspec.json.Decoder(list[Raw]).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Block(msgspec.Struct):
    type: str = ""
    signature: str | None = None
    data: str | None = None
    thinking: str | None = None


class _Asked(msgspec.Struct):
    type: str = ""


class _Event(msgspec.Struct):
    delta: _Block | None = None
    content_block: _Block | None = None


_block = msgspec.json.Decoder(_Block).decode
_event = msgspec.json.Decoder(_Event).decode
_asked = msgspec.json.Decoder(_Asked).decode

Fate = Callable[[_Block, Raw], Raw | None]
"""What becomes of a thinking or redacted block: itself, another, or nothing."""


# ---- what a request may hold


def is_suspect(envelope: Envelope, *, checked: bool) -> bool:
    """Whether a body may hold thoughts that are foreign to the upstream; ``checked``: it checks signatures."""
    if envelope.shows(*_OURS):
        return True
    if not checked or not envelope.shows(_THOUGHT):
        return False
    body = envelope.body
    thoughts = sum(map(body.count, _THINKING))
    # Anthropic itself signs every thought
    return thoughts > 0 and (envelope.shows(*_UNSIGNED) or thoughts > body.count(b'"signature"'))


def without_foreign(turns: bytes, mark: str, *, checked: bool) -> tuple[bytes, tuple[Loss, ...]] | None:
    """The messages without what the upstream cannot read, and what that was; None where there is none.

    ``mark`` is that of the upstream's own provider, whose signatures come back to it as they were.
    """
    losses: dict[Loss, None] = {}

    def fate(block: _Block, raw: Raw) -> Raw | None:
        signed = block.signature or "" if block.type == "thinking" else block.data or ""
        if mark and signed.startswith(mark):
            name = "signature" if block.type == "thinking" else "data"
            return _with(raw, name, signed.removeprefix(mark))
        if block.type != "thinking":
            if not is_ours(signed):
                return raw
            losses[REDACTED] = None
            return None
        if checked and (not signed or is_ours(signed)):
            losses[LEFT_OUT] = None
            return None
        if not is_ours(signed):
            return raw
        if not block.thinking:
            losses[LEFT_OUT] = None
            return None
        losses[UNSIGNED] = None
        return _with(raw, "signature", "")

    rows = _rows(turns)
    if not _changed(rows, 0, fate):
        return None
    return _encode(_said(rows)), tuple(losses)


def _with(raw: Raw, name: str, value: str) -> Raw:
    fields = _fields(raw)
    fields[name] = Raw(_encode(value))
    return Raw(_encode(fields))


def _changed(rows: list[dict[str, Raw]], start: int, fate: Fate, stop: int | None = None) -> bool:
    """Give each thought of ``rows[start:stop]`` its fate; whether that changed any."""
    changed = False
    for row in rows[start:stop]:
        content = bytes(row.get("content", Raw()))
        if not content.startswith(b"[") or b'thinking"' not in content:
            continue
        blocks = _blocks(content)
        kept = [after for before in blocks if (after := _fated(before, fate)) is not None]
        if kept != blocks:
            changed = True
            row["content"] = Raw(_encode(kept))
    return changed


def _fated(raw: Raw, fate: Fate) -> Raw | None:
    try:
        block = _block(raw)
    except msgspec.ValidationError:
        return raw
    return fate(block, raw) if block.type in ("thinking", "redacted_thinking") else raw


def _said(rows: list[dict[str, Raw]]) -> list[dict[str, Raw]]:
    """The messages that still say something."""
    return [row for row in rows if bytes(row.get("content", Raw())) != b"[]"]


# ---- what a vendor has refused


def without_reasoning(body: bytes, said: str) -> Relieved | None:
    """A body that was refused, without the thoughts that it was refused for; None where it has none.

    Thoughts of the tool loop that is under way stay where the vendor ``said`` that an earlier one is at fault: with them
    it goes on, and those before matter little. A loop that is left without them goes on without thinking, where that was
    asked for with a budget: it would have to begin with a thought.
    """
    fields = _fields(body)
    rows = _rows(fields["messages"])
    if _SEALED in said:
        return _without_results(fields, rows)
    loop = _loop(rows)
    named = _PLACE.search(said)
    whole = named is None or int(named.group(1)) >= loop
    losses = [LEFT_OUT]
    if not _changed(rows, 0, lambda _block, _raw: None, None if whole else loop):
        return None
    thinking = fields.get("thinking")
    if whole and loop < len(rows) and thinking is not None and _asked(thinking).type == "enabled":
        fields["thinking"] = Raw(b'{"type":"disabled"}')
        losses.append(DISABLED)
    fields["messages"] = Raw(_encode(_said(rows)))
    return Relieved(_encode(fields), tuple(losses))


def _without_results(fields: dict[str, Raw], rows: list[dict[str, Raw]]) -> Relieved | None:
    """Without what hosted tools found and what was cited of it: the model's own words stay."""
    changed = False
    for row in rows:
        content = bytes(row.get("content", Raw()))
        if content.startswith(b"[") and (b'"encrypted_' in content):
            kept = [_fields(block) for block in _blocks(content) if not _serves(block)]
            row["content"] = Raw(
                _encode([{k: v for k, v in block.items() if k != "citations"} for block in kept])
            )
            changed = True
    if not changed:
        return None
    fields["messages"] = Raw(_encode(_said(rows)))
    return Relieved(_encode(fields), (RESULTS,))


def _serves(block: Raw) -> bool:
    """Whether a block is the call of a hosted tool or its result."""
    kind = _asked(block).type
    return kind == "server_tool_use" or (kind.endswith("_tool_result") and kind != "mcp_tool_result")


def _loop(rows: list[dict[str, Raw]]) -> int:
    """Where the tool loop begins that is still going: after the last message of the user that is more than results."""
    for at in range(len(rows) - 1, -1, -1):
        row = rows[at]
        if bytes(row.get("role", Raw())) == b'"user"' and b'"tool_result"' not in bytes(
            row.get("content", Raw())
        ):
            return at + 1
    return 0


# ---- marks on an answer


def marked_frames(frames: bytes, mark: str) -> bytes:
    """Whole frames of a stream, with ``mark`` on every signature and on the data of redacted thoughts."""
    if b'"signature' not in frames and b'"redacted_thinking"' not in frames:
        return frames
    return b"".join(_marked_frame(raw, mark) for raw in split_whole(frames))


def _marked_frame(raw: bytes, mark: str) -> bytes:
    frame = parse_frame(raw)
    if frame is None:
        return raw
    try:
        event = _event(frame.data)
    except (ValueError, RecursionError):
        return raw
    found = _signed_at(event)
    if found is None:
        return raw
    path, value = found
    changed = replace_known(frame.data, path, value, _encode(mark + value))
    at = raw.find(frame.data)
    if at < 0:  # data on several lines: one line, then
        return b"event: " + frame.event + b"\ndata: " + changed.replace(b"\n", b" ") + b"\n\n"
    return raw[:at] + changed + raw[at + len(frame.data) :]


def _signed_at(event: _Event) -> tuple[tuple[str, str], str] | None:
    """Where an event has a signature or the data of a redacted thought, and which."""
    delta, block = event.delta, event.content_block
    if delta is not None and delta.type == "signature_delta" and delta.signature:
        return ("delta", "signature"), delta.signature
    if block is not None and block.type == "thinking" and block.signature:
        return ("content_block", "signature"), block.signature
    if block is not None and block.type == "redacted_thinking" and block.data:
        return ("content_block", "data"), block.data
    return None


def marked_whole(body: bytes, mark: str) -> bytes:
    """A whole answer, with the same marks; all else of it stays as it came."""
    if b'"signature"' not in body and b'"redacted_thinking"' not in body:
        return body
    fields = _fields(body)

    def fate(block: _Block, raw: Raw) -> Raw:
        name = "signature" if block.type == "thinking" else "data"
        value = block.signature if block.type == "thinking" else block.data
        return _with(raw, name, mark + value) if value else raw

    rows = [{"content": fields.get("content", Raw(b"[]"))}]
    if not _changed(rows, 0, fate):
        return body
    return _encode(fields | rows[0])
