"""What the simulator answers in the formats that are passed through: the same for the same request, and of no meaning."""

import base64
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from hashlib import blake2b
from math import pi, sin
from typing import cast

import msgspec

from penstock.core.formats.multipart import FormPart, read_parts
from penstock.errors import InvalidRequest
from penstock.providers.simulator.request import JsonValue, Unreadable, decode_object

_JSON = b"application/json"
_SSE = b"text/event-stream; charset=utf-8"
_DONE = b"data: [DONE]\n\n"
_SAMPLE_RATE = 8000
_SAMPLES = 4000
_PIECES = 4
_SIDE = 16
"""Pixels of an image's side."""

_encode = msgspec.json.Encoder().encode


class FormatAnswer(msgspec.Struct, frozen=True):
    """An answer in ``pieces``, one after the other; whole ones have one. ``model`` is what the request names."""

    model: str
    content_type: bytes
    pieces: tuple[bytes, ...]
    streams: bool = False


def _completion(fields: Mapping[str, JsonValue], model: str) -> FormatAnswer:
    prompt = fields.get("prompt")
    prompts = (
        [str(each) for each in cast("list[JsonValue]", prompt)] if isinstance(prompt, list) else [str(prompt)]
    )
    texts = [f" (simulated: {len(each)} characters before this)" for each in prompts]
    counts: dict[str, JsonValue] = {"prompt_tokens": len(prompts) * 3, "completion_tokens": len(texts) * 8}
    counts["total_tokens"] = len(prompts) * 11
    plain: dict[str, JsonValue] = {
        "id": "cmpl-simulated",
        "object": "text_completion",
        "created": 0,
        "model": model,
    }
    if fields.get("stream") is not True:
        choices: list[JsonValue] = [
            {"index": at, "text": text, "finish_reason": "stop", "logprobs": None}
            for at, text in enumerate(texts)
        ]
        return _whole(model, {**plain, "choices": choices, "usage": counts})
    frames: list[dict[str, JsonValue]] = [
        {**plain, "choices": [{"index": at, "text": word, "finish_reason": None}]}
        for at, text in enumerate(texts)
        for word in re.findall(r" ?\S+", text)
    ]
    frames.append({**plain, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}], "usage": counts})
    return FormatAnswer(model, _SSE, (*map(_event, frames), _DONE), streams=True)


def _image(fields: Mapping[str, JsonValue], model: str) -> FormatAnswer:
    wanted = fields.get("n")
    number = wanted if isinstance(wanted, int) else 1
    images = [_png(f"{fields.get('prompt')}{at}") for at in range(number)]
    usage: JsonValue = {"input_tokens": 5, "output_tokens": 100 * number, "total_tokens": 5 + 100 * number}
    if fields.get("stream") is True:
        part: dict[str, JsonValue] = {"type": "image_generation.partial_image", "partial_image_index": 0}
        last: dict[str, JsonValue] = {"type": "image_generation.completed", "usage": usage}
        frames = (_event({**event, "b64_json": images[0]}, named=True) for event in (part, last))
        return FormatAnswer(model, _SSE, tuple(frames), streams=True)
    return _whole(model, {"created": 0, "data": [{"b64_json": image} for image in images], "usage": usage})


def _png(seed: str) -> str:
    """A small picture of one colour, as base64."""
    colour = blake2b(seed.encode("utf-8", "surrogatepass"), digest_size=3).digest()
    rows = (b"\0" + colour * _SIDE) * _SIDE

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0))
    image = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(image).decode()


def _speech(fields: Mapping[str, JsonValue], model: str) -> FormatAnswer:
    sound = wave(str(fields.get("input")))
    size = -(-len(sound) // _PIECES)
    pieces = tuple(sound[at : at + size] for at in range(0, len(sound), size))
    if fields.get("stream_format") != "sse":
        return FormatAnswer(model, b"audio/wav", pieces, streams=True)
    frames: list[dict[str, JsonValue]] = [
        {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()} for piece in pieces
    ]
    usage: JsonValue = {"input_tokens": 4, "output_tokens": 20, "total_tokens": 24}
    frames.append({"type": "speech.audio.done", "usage": usage})
    return FormatAnswer(model, _SSE, tuple(_event(frame) for frame in frames), streams=True)


def wave(text: str) -> bytes:
    """Half a second of a tone, as a WAV file; how high it is depends on the text."""
    height = 200 + zlib.crc32(text.encode("utf-8", "surrogatepass")) % 800
    samples = b"".join(
        struct.pack("<h", int(8000 * sin(2 * pi * height * at / _SAMPLE_RATE))) for at in range(_SAMPLES)
    )
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _SAMPLE_RATE, 2 * _SAMPLE_RATE, 2, 16)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data


def _rerank(fields: Mapping[str, JsonValue], model: str) -> FormatAnswer:
    documents = fields.get("documents")
    given = cast("list[JsonValue]", documents) if isinstance(documents, list) else []
    wanted = set(_words(str(fields.get("query"))))
    scores = [len(wanted & set(_words(str(each)))) / max(len(wanted), 1) for each in given]
    order = sorted(range(len(given)), key=lambda at: (-scores[at], at))
    most = fields.get("top_n")
    results: list[JsonValue] = [
        {"index": at, "relevance_score": scores[at]}
        | ({"document": given[at]} if fields.get("return_documents") is True else {})
        for at in order[: most if isinstance(most, int) else None]
    ]
    read = sum(len(str(each)) // 4 + 1 for each in given)
    tokens: dict[str, JsonValue] = {"input_tokens": read, "output_tokens": 0}
    return _whole(model, {"id": "rerank-simulated", "results": results, "meta": {"tokens": tokens}})


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _moderation(fields: Mapping[str, JsonValue], model: str) -> FormatAnswer:
    given = fields.get("input")
    inputs = cast("list[JsonValue]", given) if isinstance(given, list) else [given]
    results: list[JsonValue] = []
    for each in inputs:
        flagged = "violence" in str(each).casefold()
        score: JsonValue = 0.9 if flagged else 0.01
        results.append(
            {"flagged": flagged, "categories": {"violence": flagged}, "category_scores": {"violence": score}}
        )
    return _whole(model, {"id": "modr-simulated", "model": model, "results": results})


def _transcription(parts: Mapping[str, bytes], model: str) -> FormatAnswer:
    text = f"(simulated) {len(parts.get('file', b''))} bytes of sound."
    wanted = parts.get("response_format", b"json").decode("latin-1")
    usage: JsonValue = {"type": "tokens", "input_tokens": 14, "output_tokens": 7, "total_tokens": 21}
    if parts.get("stream", b"").lower() == b"true":
        frames: list[dict[str, JsonValue]] = [
            {"type": "transcript.text.delta", "delta": word} for word in re.findall(r" ?\S+", text)
        ]
        frames.append({"type": "transcript.text.done", "text": text, "usage": usage})
        return FormatAnswer(model, _SSE, tuple(_event(frame) for frame in frames), streams=True)
    times = "00:00:00{0}000 --> 00:00:00{0}500"
    match wanted:
        case "text":
            return FormatAnswer(model, b"text/plain; charset=utf-8", (f"{text}\n".encode(),))
        case "srt":
            written = f"1\n{times.format(',')}\n{text}\n\n"
            return FormatAnswer(model, b"application/x-subrip", (written.encode(),))
        case "vtt":
            return FormatAnswer(model, b"text/vtt", (f"WEBVTT\n\n{times.format('.')}\n{text}\n\n".encode(),))
        case "verbose_json":
            segment: JsonValue = {"id": 0, "start": 0.0, "end": 0.5, "text": text}
            return _whole(model, {"task": "transcribe", "duration": 0.5, "text": text, "segments": [segment]})
        case _:
            return _whole(model, {"text": text, "usage": usage})


def _whole(model: str, answer: dict[str, JsonValue]) -> FormatAnswer:
    return FormatAnswer(model, _JSON, (_encode(answer),))


def _event(fields: dict[str, JsonValue], *, named: bool = False) -> bytes:
    name = f"event: {fields['type']}\n".encode() if named else b""
    return name + b"data: " + _encode(fields) + b"\n\n"


_IN_JSON: Mapping[str, Callable[[Mapping[str, JsonValue], str], FormatAnswer]] = {
    "/images/generations": _image,
    "/audio/speech": _speech,
    "/rerank": _rerank,
    "/moderations": _moderation,
    "/completions": _completion,
}
_EDITS = "/images/edits"
_IN_FORMS = ("/audio/transcriptions", "/audio/translations", _EDITS)


def format_answer(path: str, body: bytes) -> FormatAnswer | None:
    """The answer to a request of one of these formats; None where the path is of none. Raises ``Unreadable``."""
    if path.endswith(_IN_FORMS):
        try:
            parts = {part.name: _value(body, part) for part in read_parts(body)}
        except InvalidRequest as error:
            raise Unreadable(error.message) from error
        model = parts.get("model", b"").decode("latin-1") or "simulator"
        if path.endswith(_EDITS):
            said = parts.get("prompt", b"").decode("utf-8", "replace")
            return _image({"prompt": said, "stream": parts.get("stream", b"").lower() == b"true"}, model)
        return _transcription(parts, model)
    for suffix, answer in _IN_JSON.items():
        if path.endswith(suffix) and not path.endswith("/chat/completions"):
            fields = decode_object(body)
            model = fields.get("model")
            return answer(fields, model if isinstance(model, str) else "simulator")
    return None


def _value(body: bytes, part: FormPart) -> bytes:
    return body[part.start : part.end]
