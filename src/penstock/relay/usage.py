"""What an answer says of itself: its token counts (a missing one is estimated from bytes, and marked), and its model."""

import msgspec

from penstock.core.answered_model import other_model
from penstock.core.dialects.interface import Lane
from penstock.core.neutral.usage import Usage
from penstock.relay.call import Call
from penstock.relay.record import Record

_BYTES_PER_TOKEN = 4


def note_stream(call: Call, record: Record, lane: Lane | None) -> None:
    """Note a stream's token counts, and whether another model answered."""
    if lane is None:
        return
    note_model(record, lane.answered)
    usage = lane.usage
    if not lane.done or not _counted(usage) or (not usage.output and lane.output_bytes):
        record.estimated = True
        usage = msgspec.structs.replace(
            usage,
            input=usage.input if _counted(usage) else call.envelope.estimate_input(),
            output=max(usage.output or 0, lane.output_bytes // _BYTES_PER_TOKEN),
        )
    record.usage = usage


def note_whole(call: Call, record: Record, usage: Usage, generated: int, answered: str) -> None:
    """Note the token counts of a whole answer, and whether another model ``answered``.

    ``generated`` is the length of what it may hold of text, in bytes.
    """
    note_model(record, answered)
    if not _counted(usage) or usage.output is None:
        record.estimated = True
        usage = msgspec.structs.replace(
            usage,
            input=usage.input if _counted(usage) else call.envelope.estimate_input(),
            output=usage.output or generated // _BYTES_PER_TOKEN,
        )
    record.usage = usage


def note_model(record: Record, answered: str) -> None:
    """Note the model that an answer names, where that is another than the one asked for."""
    record.answered_model = other_model(record.attempt.model, answered)


def _counted(usage: Usage) -> bool:
    """Whether the upstream has counted what it read: no prompt has 0 tokens, though some say so of every one."""
    return usage.input is not None and bool(usage.input or usage.cache_read or usage.cache_write)
