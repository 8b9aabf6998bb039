"""Maker marks: whose a signature or an encrypted thought is, written in front of it on its way to the caller.

To a client the signature of any vendor looks like Anthropic's, and it returns it to whichever model is asked next. Anthropic
refuses those that it did not make. So what another provider signed goes out as ``gwm1.`` + a digest of the provider's id +
``.`` + the signature: its maker gets it back without the mark, and nobody else gets it. Anthropic's own stays as it is.
"""

import base64
import hashlib
from collections.abc import Iterable

import msgspec

from penstock.core.memo import Memo
from penstock.core.neutral.events import AnyEvent, HostedUsed, ThoughtRedacted, ThoughtSigned
from penstock.core.neutral.request import AnyPart, Hosted, Request, Thought, Turn
from penstock.core.reasoning.signature import MAKER_PREFIX, is_ours

_DIGEST = 9
"""Bytes: among the providers of one catalogue no two will have the same."""


_marks: Memo[str, str] = Memo(1024)


def maker_mark(provider: str) -> str:
    """What stands in front of that which the models of ``provider`` signed."""
    known = _marks.get(provider)
    if known is not None:
        return known
    digest = hashlib.blake2b(provider.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
    return _marks.keep(provider, f"{MAKER_PREFIX}{base64.urlsafe_b64encode(digest).decode('ascii')}.")


def marked_events(events: Iterable[AnyEvent], mark: str) -> list[AnyEvent]:
    """The events with ``mark`` on what the upstream signed or encrypted; a signature that is ours stays."""
    out: list[AnyEvent] = []
    for event in events:
        match event:
            case ThoughtSigned(signed) if not is_ours(signed):
                out.append(ThoughtSigned(mark + signed))
            case ThoughtRedacted(data):
                out.append(ThoughtRedacted(mark + data))
            case HostedUsed(part) if part.raw:
                out.append(HostedUsed(msgspec.structs.replace(part, raw=mark + part.raw)))
            case _:
                out.append(event)
    return out


def own_again(request: Request, mark: str, *, native: bool) -> Request:
    """The request with the provider's own signatures as it made them; ``mark`` is the provider's.

    ``native``: it is Anthropic, whose own go out without a mark. What hosted tools of others did loses what is theirs alone.
    """
    concerned: list[int] = []
    for at, turn in enumerate(request.turns):
        if turn.role == "assistant":
            for (
                part
            ) in turn.parts:  # a generator within a generator would cost every request more than it finds
                if isinstance(part, Hosted) or (isinstance(part, Thought) and _is_own(part, mark)):
                    concerned.append(at)
                    break
    if not concerned:
        return request
    turns = list(request.turns)
    for at in concerned:
        turn = turns[at]
        turns[at] = Turn(turn.role, tuple([_unmarked(part, mark, native) for part in turn.parts]))
    return msgspec.structs.replace(request, turns=tuple(turns))


def _is_own(thought: Thought, mark: str) -> bool:
    return (thought.signature or thought.redacted or "").startswith(mark)


def _unmarked(part: AnyPart, mark: str, native: bool) -> AnyPart:
    if isinstance(part, Hosted):
        own = part.raw.startswith(mark) or (native and not is_ours(part.raw))
        return msgspec.structs.replace(part, raw=part.raw.removeprefix(mark) if own else "")
    if not isinstance(part, Thought) or not _is_own(part, mark):
        return part
    if part.redacted is not None:
        return Thought(redacted=part.redacted.removeprefix(mark))
    return Thought(part.text, (part.signature or "").removeprefix(mark))
