"""A request body cut in three, for who remembers the two large parts: the conversation, the tools, and the rest."""

import msgspec

from penstock.core.body.envelope import Envelope


class RequestParts(msgspec.Struct, frozen=True):
    """A body cut in three: ``messages`` and ``tools`` (JSON lists), and ``rest`` with empty lists in their places."""

    rest: bytes
    messages: bytes
    tools: bytes


def request_parts(envelope: Envelope) -> RequestParts | None:
    """The parts of a body whose places the scanner has found; None for any other."""
    spans, places, body = envelope.spans, envelope.rules.scan.places, envelope.body
    at = places[envelope.rules.turns]
    if spans is None or not body.startswith(b"[", spans[at]):
        return None
    cuts = [(spans[at], spans[at + 1])]
    at = places["tools"]
    tools = b"[]"
    if body.startswith(b"[", spans[at]) and spans[at]:
        tools = body[spans[at] : spans[at + 1]]
        cuts.append((spans[at], spans[at + 1]))
    messages = body[slice(*cuts[0])]
    (start, end), *others = sorted(cuts)
    rest = [body[:start]]
    for again, after in others:
        rest.append(body[end:again])
        end = after
    return RequestParts(b"[]".join((*rest, body[end:])), messages, tools)
