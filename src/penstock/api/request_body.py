"""Request bodies: checked, and read at the top level; a large one in a thread."""

from penstock.core.body.envelope import BodyRules, Envelope, read_body
from penstock.core.body.value_limits import check_values
from penstock.relay.offload import Offload


class BodyReader:
    """Checks bodies and reads their top level, large ones in a thread."""

    def __init__(self, offload: Offload, *, max_values: int) -> None:
        """``max_values`` bounds the objects, lists and members of one body."""
        self._offload = offload
        self._max_values = max_values

    async def read(self, body: bytes, rules: BodyRules, *, counting: bool = False) -> Envelope:
        """The body's envelope. Raises ``InvalidRequest``."""
        if len(body) <= self._offload.above:
            return self._read(body, rules, counting=counting)
        return await self._offload.run(self._read, body, rules, counting=counting)

    def _read(self, body: bytes, rules: BodyRules, *, counting: bool) -> Envelope:
        if rules.decoded:
            check_values(body, self._max_values)
        return read_body(body, rules, counting=counting)
