"""The form of Chat's chunks: what stands round the text or the reasoning of a chunk that holds nothing else."""

from penstock.core.dialects.chat.response_schema import Chunk, Delta, present, read_chunk
from penstock.core.dialects.forms import JSON_TEXT, TextForm, text_at

_DATA = b"data: "
_ENDS = (b"\n\n", b"\r\n\r\n")
_PROBE = "probe"
_NOTHING = (b"", b"null", b"[]")


def form_of(raw: bytes) -> TextForm | None:
    """The form of a frame; None for one that holds anything but some text, or some reasoning, of its one choice."""
    end = next((end for end in _ENDS if raw.endswith(end)), b"")
    if not end or not raw.startswith(_DATA):
        return None
    chunk = read_chunk(raw[len(_DATA) : -len(end)])
    found = None if chunk is None else _only_text(chunk)
    if found is None:
        return None
    field, text = found
    key = b'"%b":' % field.encode()
    start = raw.find(b'"', raw.find(key) + len(key)) + 1
    stop = _end_of_text(raw, start)
    if raw.count(key) != 1 or stop < 0 or text_at(raw, start, stop) != text:
        return None
    before, after = raw[:start], raw[stop:]
    # The text stands where it was found only if another one there is read back.
    probe = read_chunk(before[len(_DATA) :] + _PROBE.encode() + after[: -len(end)])
    return TextForm(before, after) if probe is not None and _only_text(probe) == (field, _PROBE) else None


def _end_of_text(raw: bytes, start: int) -> int:
    found = JSON_TEXT.match(raw, start)
    return found.end() if found is not None and raw.startswith(b'"', found.end()) else -1


def _only_text(chunk: Chunk) -> tuple[str, str] | None:
    """The one field that has text in a chunk with one choice, and its text; None where a reader would note anything else."""
    choices = chunk.choices
    if not choices or len(choices) != 1 or chunk.usage is not None or chunk.base_resp is not None:
        return None
    choice = choices[0]
    delta = choice.delta
    if delta is None or choice.index or choice.finish_reason is not None or choice.usage is not None:
        return None
    if present(chunk.error) or present(choice.error) or _holds_more(delta):
        return None
    fields = [
        (field, text)
        for field, text in (
            ("content", delta.content),
            ("reasoning_content", delta.reasoning_content),
            ("reasoning", delta.reasoning),
        )
        if text
    ]
    return fields[0] if len(fields) == 1 else None


def _holds_more(delta: Delta) -> bool:
    return (
        delta.refusal is not None
        or delta.tool_calls is not None
        or delta.function_call is not None
        or bytes(delta.reasoning_details) not in _NOTHING
        or bytes(delta.annotations) not in _NOTHING
    )
