"""Going on with a turn that a Messages upstream has paused, for callers whose dialect has no word for that.

A caller of Messages gets the pause as it is and goes on itself. ``core/dialects/messages/paused_turn.py`` reads such a turn.
"""

from collections.abc import Awaitable, Callable

import msgspec

from penstock.core.dialects.lanes import Lane, Translation
from penstock.core.dialects.messages.paused_turn import PausedTurnDecoder
from penstock.core.dialects.registry import Prepared
from penstock.core.neutral.events import AnyEvent
from penstock.core.routing import Attempt
from penstock.relay.call import Call


def continued(lane: Lane, prepared: Prepared) -> Prepared | None:
    """What lets the turn of a stream go on; None where it is not paused. The next answer's bytes go into the same lane."""
    if isinstance(lane, Translation) and isinstance(lane.reader, PausedTurnDecoder) and lane.reader.paused:
        return msgspec.structs.replace(prepared, body=lane.reader.resume(prepared.body))
    return None


def may_be_paused(call: Call, attempt: Attempt, body: bytes) -> bool:
    """Whether a whole answer may be that of a turn which has to go on."""
    return attempt.dialect == "messages" and call.dialect.name != "messages" and b'"pause_turn"' in body


async def whole_turn(
    attempt: Attempt, prepared: Prepared, body: bytes, most: int, ask: Callable[[Prepared], Awaitable[bytes]]
) -> list[AnyEvent]:
    """The events of a turn whose first whole answer is ``body``; ``ask`` gets the next ones, at most ``most``."""
    reader = PausedTurnDecoder(profile=attempt.profile)
    events = reader.whole(body)
    for _ in range(most):
        if not reader.paused:
            break
        prepared = msgspec.structs.replace(prepared, body=reader.resume(prepared.body))
        events += reader.whole(await ask(prepared))
    return events + reader.finish()
