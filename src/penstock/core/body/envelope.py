"""The envelope of a request body: checked, read at its top level, and written again with a few fields changed.

This is all that happens to the body of a request whose upstream speaks the caller's own dialect, so it has to be both
complete (what passes here goes to an upstream as it is) and cheap. ``msgspec.Raw`` skips values without copying them; the
skipping checks the whole JSON grammar (escapes, half surrogates, control characters, NaN, trailing bytes), but does not
check UTF-8, which is therefore done here. Its bound on nesting depends on the version of Python, so whoever reads a body
applies ours as well (``penstock.core.body.nesting``). Half a surrogate pair (``\\ud83d`` alone) is refused: it is no character,
and upstreams differ in what they make of it.

There are two ways to an envelope. ``scan_body`` asks the scanner (``scanner.py``), which takes nearly every body as it is, and
keeps the places of the members that the relay may change. ``read_body``, the long way, is for all others: it accepts
more, has the words for what is wrong, and has the top level as a dict, of which ``bounded`` may leave out something.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec
from msgspec import Raw

from penstock.core.body.cost_fields import ADDS, CostBounds, CostRules, bound_cost, may_add_tools, takes_long
from penstock.core.body.request_scan import ENCODED
from penstock.core.body.scan_rules import CLOSE, ESCAPED, MARKS, ScanRules, Spans
from penstock.core.body.scanner import scan
from penstock.core.body.utf8 import find_invalid
from penstock.errors import InvalidRequest

MAX_MESSAGES = 10_000

Feature = Literal["images", "documents", "tools"]
"""What a request asks of a model beyond text."""
T = TypeVar("T")


class _Message(msgspec.Struct):
    role: str
    content: Raw = Raw(b"null")


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
decode_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_messages = msgspec.json.Decoder(list[_Message]).decode
_string = msgspec.json.Decoder(str).decode
decode_flag = msgspec.json.Decoder(bool | None).decode
decode_integer = msgspec.json.Decoder(int | None).decode
decode_number = msgspec.json.Decoder(float | None).decode
_encode = msgspec.json.Encoder().encode
_QUOTE = b'"'[0]
_TRUE = b"true"
_CONTENT_STARTS = frozenset(b'"[n')
_HALF_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_MEMBER = re.compile(rb'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\r\n]*:[ \t\r\n]*')
_AFTER = re.compile(rb"[ \t\r\n]*[,}]")
_NO_TOOLS = frozenset((b"", b"[]", b"null"))


Attachment = tuple[bytes, re.Pattern[bytes]]
"""The word that shows in the bytes where something is attached, and what it must look like then."""


def typed_as(word: bytes) -> Attachment:
    """What is attached as a part whose ``type`` is this word."""
    return b'"%s"' % word, re.compile(rb'"type"\s*:\s*"%s"' % word)


_BASE64 = re.compile(rb'(?:;base64,|"data"\s*:\s*")([A-Za-z0-9+/=\r\n\\]{1000,}+)')
_TOKENS_PER_ATTACHMENT = 1600
_BYTES_PER_TOKEN = 4


def estimate_conversation(envelope: "Envelope") -> int:
    """Input tokens, guessed from the length of the body: 4 bytes each, and 1,600 for an attachment."""
    body = envelope.body
    size = len(body)
    attachments = 0
    if envelope.shows(*ENCODED):
        for found in _BASE64.finditer(body):
            size -= len(found.group(1))
            attachments += 1
    return size // _BYTES_PER_TOKEN + attachments * _TOKENS_PER_ATTACHMENT


@dataclass(frozen=True, slots=True)
class BodyRules:
    """What the bodies of one format are checked for, and where they say what.

    ``check`` takes the top level, and whether only tokens are to be counted; it gives the most tokens of the answer and
    whether the caller wants the counts of a stream, and raises ``InvalidRequest``. ``scan`` is what a scanner may take in
    its place, and ``scanned`` reads the same two out of the members that it has found. ``turns`` is the field of the
    conversation; ``attachments`` says how images and documents show in it. ``decoded``: more than the top level is decoded
    on some way, so the number of values is bounded. ``estimate_input`` guesses the input's tokens. ``cost`` says where a
    body names other models, or multiplies what it costs. ``regular`` makes a body of what clients are known to send in its
    place, with what it had to leave out (None: there is nothing to make); ``may_deviate`` says by its tools whether a body
    that the scanner takes may be such a one. ``form`` reads bodies that are no JSON, and raises ``InvalidRequest``.
    ``always_streams``: every answer goes on as it comes, asked for or not.
    """

    check: Callable[[dict[str, Raw], bool], tuple[int | None, bool]]
    scan: ScanRules
    scanned: Callable[[Callable[[str], bytes]], tuple[int | None, bool]]
    turns: str
    attachments: Mapping[Feature, Attachment]
    cost: CostRules
    decoded: bool = True
    estimate_input: Callable[["Envelope"], int] = estimate_conversation
    regular: Callable[[dict[str, Raw]], tuple[dict[str, Raw], tuple[str, ...]] | None] | None = None
    may_deviate: Callable[[bytes], bool] | None = None
    form: Callable[[bytes], "Envelope"] | None = None
    always_streams: bool = False


class Envelope(msgspec.Struct, frozen=True):
    """A checked body, and what the relay has to know of it."""

    rules: BodyRules
    body: bytes
    model: str
    stream: bool
    max_tokens: int | None
    include_usage: bool
    """A Chat caller asked for the usage chunk of a stream; always True elsewhere."""
    spans: Spans | None = None
    """Where the scanner has found the members of ``rules.scan``; None where the body went the long way."""
    decoded: dict[str, Raw] | None = None
    """The top level, where it was decoded."""
    left_out: tuple[str, ...] = ()
    """Fields that were left out, in whole or in part, because of what they cost, or because the format has none such."""

    @property
    def fields(self) -> dict[str, Raw]:
        """The top level as the caller wrote it, in order. Decoded each time where the scanner has found what is needed."""
        return _fields(self.body) if self.decoded is None else self.decoded

    def value(self, name: str) -> bytes:
        """The value of a field as the caller wrote it; empty where it is absent."""
        place = None if self.spans is None else self.rules.scan.places.get(name)
        if self.spans is None or place is None:
            return bytes(self.fields.get(name, b""))
        return self.body[self.spans[place] : self.spans[place + 1]]

    def shows(self, *marks: bytes) -> bool:
        """Whether a string of the body may begin with one of these: costs nothing where they are marks of the scanner's."""
        spans = self.spans
        if spans is None:
            return any(b'"' + mark in self.body for mark in marks)
        found, bits = spans[MARKS], self.rules.scan.bits
        if not found:
            return False
        for mark in marks:  # noqa: SIM110 - a generator would cost more
            if found & bits[mark]:
                return True
        return False

    def may_show(self, mark: bytes) -> bool:
        """The same of a mark that some formats have; no body of another has it."""
        return mark in self.rules.scan.bits and self.shows(mark)

    def encode(self, model: str, set: Mapping[str, bytes] | None = None, drop: tuple[str, ...] = ()) -> bytes:  # noqa: A002
        """The body with ``model`` (and the fields of ``set``, JSON text each) replaced or added and ``drop`` left out.

        Every other field stays as it was, byte for byte, in the caller's order. Where nothing changes it is the caller's
        own body, unless a top-level key was there twice: then the last one has won.
        """
        spans = self.spans
        if spans is not None and not set and not drop and model != self.model:
            at = self.rules.scan.places["model"]
            return b"".join((self.body[: spans[at]], _encode(model), self.body[spans[at + 1] :]))
        changes = {} if set is None else dict(set)
        if model != self.model:
            changes["model"] = _encode(model)
        if spans is not None and not drop and changes.keys() <= self.rules.scan.places.keys():
            return self._spliced(spans, changes)
        fields = self.fields
        if not changes and fields.keys().isdisjoint(drop):
            plain = _encode(fields)
            # the same length: no white space between the members, so no room for a second one of any of them
            same = len(plain) == len(self.body) or not _repeats_a_key(self.body, fields)
            return self.body if same else plain
        fields = {**fields, **{name: Raw(value) for name, value in changes.items()}}
        for name in drop:
            fields.pop(name, None)
        return _encode(fields)

    def _spliced(self, spans: Spans, changes: Mapping[str, bytes]) -> bytes:
        """The body with other values in the places of what is there; what is not goes before the closing bracket."""
        if not changes:
            return self.body
        body, places = memoryview(self.body), self.rules.scan.places
        close = spans[CLOSE]
        added = [b',"%b":%b' % (name.encode(), changes[name]) for name in changes if not spans[places[name]]]
        edits = [
            (*spans[places[name] : places[name] + 2], changes[name])
            for name in changes
            if spans[places[name]]
        ]
        pieces: list[bytes | memoryview] = []
        at = 0
        for start, end, value in (*sorted(edits), (close, close, b"".join(added))):
            pieces += (body[at:start], value)
            at = end
        return b"".join((*pieces, body[at:]))

    def estimate_input(self) -> int:
        """Input tokens, guessed as the format has it."""
        return self.rules.estimate_input(self)

    def features(self) -> frozenset[Feature]:
        """What the model must be able to take, judged from the bytes. Costs a search through all of them."""
        found: set[Feature] = set()
        if self.value("tools") not in _NO_TOOLS:
            found.add("tools")
        turns = self.value(self.rules.turns)
        for feature, (word, pattern) in self.rules.attachments.items():
            if word in turns and pattern.search(turns):
                found.add(feature)
        return frozenset(found)

    def usage_options(self) -> bytes:
        """``stream_options`` with ``include_usage`` on and the caller's other members as they were."""
        given = self.value("stream_options")
        members = {} if given in (b"", b"null") else _fields(given)
        return _encode({**members, "include_usage": Raw(b"true")})


def scan_body(body: bytes, rules: BodyRules, scan_rules: ScanRules) -> Envelope | None:
    """The envelope of a body that the scanner takes; None for any other, which ``read_body`` and ``bounded`` look at.

    ``scan_rules`` are those of ``rules`` with the bound on values that holds here.
    """
    spans = scan(body, 0, len(body), scan_rules)
    if spans is None:
        return None
    found = spans[MARKS]
    if found and found & (ESCAPED | scan_rules.bits[ADDS]) and may_add_tools(body):
        return None
    places = scan_rules.places

    def value(name: str) -> bytes:
        return body[spans[places[name]] : spans[places[name] + 1]]

    if rules.may_deviate is not None and spans[places["tools"]] and rules.may_deviate(value("tools")):
        return None
    max_tokens, include_usage = rules.scanned(value)
    at = places["model"]
    model = body[spans[at] + 1 : spans[at + 1] - 1].decode()
    at = places.get("stream")
    stream = at is not None and body.startswith(_TRUE, spans[at]) and spans[at] > 0
    return Envelope(rules, body, model, stream, max_tokens, include_usage, spans)


def scanned_integer(value: bytes) -> int | None:
    """The integer that a scanner has found; None where it is null or not there."""
    return None if value in (b"", b"null") else int(value)


def read_body(body: bytes, rules: BodyRules, *, counting: bool = False) -> Envelope:
    """Check a body and read its top level. ``counting``: it is for ``count_tokens``, which wants no ``max_tokens``.

    Raises ``InvalidRequest``.
    """
    left_out: tuple[str, ...] = ()
    try:
        fields = _object(body)
        made = None if rules.regular is None else rules.regular(fields)
        if made is not None:
            fields, left_out = made
            body = _encode(fields)
        model = _text(fields, "model")
        stream = "stream" in fields and bool(typed(fields, "stream", decode_flag, "true or false"))
        stream = stream or rules.always_streams
        max_tokens, include_usage = rules.check(fields, counting)
    except RecursionError as error:  # also of a later pass, which stands deeper in the stack than the first
        raise too_deep() from error
    return Envelope(rules, body, model, stream, max_tokens, include_usage, decoded=fields, left_out=left_out)


def takes_long_to_bound(envelope: Envelope) -> bool:
    """Whether ``bounded`` may take milliseconds."""
    return takes_long(envelope.fields, envelope.rules.cost, len(envelope.body))


def bounded(envelope: Envelope, bounds: CostBounds) -> Envelope:
    """The envelope without what its caller may not have; the same one where that is nothing.

    Raises ``ModelNotOnPlan`` for a model that it names beside ``model``.
    """
    try:
        fields, left_out = bound_cost(envelope.fields, envelope.rules.cost, bounds)
    except RecursionError as error:
        raise too_deep() from error
    if not left_out:
        return envelope
    left_out = (*envelope.left_out, *left_out)
    return msgspec.structs.replace(envelope, body=_encode(fields), decoded=fields, left_out=left_out)


# ---- the top level


def _object(body: bytes) -> dict[str, Raw]:
    invalid = find_invalid(body)
    if invalid >= 0:
        raise InvalidRequest(f"The body is not valid UTF-8 (byte {invalid}).")
    try:
        return _fields(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest("The body must be a JSON object.") from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(_what_is_malformed(body, str(error))) from error


def _what_is_malformed(body: bytes, reason: str) -> str:
    if not body.strip():
        return "The body is empty; a JSON object was expected."
    if body.startswith(b"\xef\xbb\xbf"):
        return "The body starts with a byte-order mark; send JSON without one."
    if _HALF_SURROGATE.search(body) and (
        "surrogate" in reason or "truncated" in reason or "escape" in reason
    ):
        return "The body has half of a surrogate pair (an escape like \\ud83d without its partner), which is no character."
    if "truncated" in reason:
        return "The body is not valid JSON: it ends too early."
    return f"The body is not valid JSON: {reason.removeprefix('JSON is malformed: ')}."


def _text(fields: dict[str, Raw], name: str) -> str:
    raw = fields.get(name)
    if raw is None:
        raise InvalidRequest(f"{name} is required.", param=name)
    try:
        value = _string(raw)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{name} must be a string.", param=name) from error
    if not value.strip():
        raise InvalidRequest(f"{name} must not be empty.", param=name)
    return value


def typed(fields: dict[str, Raw], name: str, decode: Callable[[Raw], T], wanted: str) -> T | None:
    """A field's value, None where it is absent or null. Raises ``InvalidRequest`` where it is not ``wanted``."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{name} must be {wanted}.", param=name) from error


def _repeats_a_key(body: bytes, fields: dict[str, Raw]) -> bool:
    """Whether the body holds more top-level members than ``fields``: steps over each as the dict has it."""
    at = body.index(b"{") + 1
    for name, raw in fields.items():
        member = _MEMBER.match(body, at)
        value = bytes(raw)
        if member is None or _string(member.group(1)) != name or not body.startswith(value, member.end()):
            return True
        after = _AFTER.match(body, member.end() + len(value))
        if after is None:
            return True
        at = after.end()
    return bool(body[at:].strip())


# ---- single fields


def check_messages(fields: dict[str, Raw]) -> None:
    """A list of objects with a role, none of whose contents is a number, a flag or an object; more is the upstream's."""
    raw = fields.get("messages")
    if raw is None:
        raise InvalidRequest("messages is required.", param="messages")
    try:
        messages = _messages(raw)
    except msgspec.ValidationError as error:
        raise _not_messages(raw) from error
    if not messages:
        raise InvalidRequest("messages must not be empty.", param="messages")
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequest(f"messages may hold at most {MAX_MESSAGES} messages.", param="messages")
    for at, message in enumerate(messages):
        if memoryview(message.content)[0] not in _CONTENT_STARTS:
            field = f"messages[{at}].content"
            raise InvalidRequest(f"{field} must be a string or a list of blocks.", param=field)


def _not_messages(raw: Raw) -> InvalidRequest:
    """What is wrong with ``messages`` that are not a list of objects with a role each."""
    try:
        roles = [message.get("role") for message in decode_objects(raw)]
    except msgspec.ValidationError as shape:
        return invalid(shape, "messages")
    at = next(at for at, role in enumerate(roles) if role is None or memoryview(role)[0] != _QUOTE)
    name = f"messages[{at}].role"
    missing = roles[at] is None
    return InvalidRequest(f"{name} is required." if missing else f"{name} must be a string.", param=name)


def invalid(error: msgspec.ValidationError, root: str = "") -> InvalidRequest:
    """msgspec's complaint in the words of an API: ``messages[2].content: expected `str`, got `int` ``."""
    text, _, path = str(error).partition(" - at `$")
    name = f"{root}{path.removesuffix('`')}".removeprefix(".") or None
    reason = text[:1].lower() + text[1:]
    return InvalidRequest(f"{name}: {reason}." if name else f"The body is wrong: {reason}.", param=name)


def too_deep() -> InvalidRequest:
    """What the decoder's own bound on nesting is called towards the caller."""
    return InvalidRequest("The body is nested too deeply.")
