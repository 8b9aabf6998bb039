"""Request bodies: checked, and read at the top level; a large one in a thread.

Nearly every body is taken by the scanner in one pass. What it leaves goes the long way.
"""

import dataclasses
from collections.abc import Callable

from penstock.core.body.cost_fields import CostBounds
from penstock.core.body.envelope import (
    BodyRules,
    Envelope,
    bounded,
    read_body,
    scan_body,
    takes_long_to_bound,
    too_deep,
)
from penstock.core.body.nesting import body_nests_deeper, nests_deeper
from penstock.core.body.scan_rules import MAX_DEPTH, ScanRules
from penstock.core.body.scanner import BOUNDS_NESTING
from penstock.core.body.value_limits import check_values
from penstock.errors import InvalidRequest
from penstock.relay.offload import Offload


class BodyReader:
    """Checks bodies and reads their top level, large ones in a thread."""

    def __init__(self, offload: Offload, *, max_values: int, max_nesting: int, max_choices: int) -> None:
        """``max_values`` bounds the objects, lists and members of one body, ``max_nesting`` the levels of them one in the
        other, ``max_choices`` the answers it may ask for.
        """
        self._offload = offload
        self._max_values = max_values
        self._max_nesting = max_nesting
        self._max_choices = max_choices
        self._is_deep = not BOUNDS_NESTING or max_nesting < MAX_DEPTH  # what the scanner takes may be
        self._scan_rules: dict[int, ScanRules] = {}
        """By the identity of a format's rules, which last as long as the process: its scan rules with our bound on values."""

    async def read(
        self,
        body: bytes,
        rules: BodyRules,
        bounds: CostBounds,
        *,
        counting: bool = False,
        deviates: bool = False,
    ) -> Envelope:
        """The body's envelope, as far as its caller may ask for what it says.

        ``deviates``: the client is known to send other shapes than the format's. ``bounds`` may be asked in another thread.
        Raises ``InvalidRequest`` or ``ModelNotOnPlan``.
        """
        if len(body) > self._offload.above:
            return await self._offload.run(
                self._read_bounded, body, rules, bounds, counting=counting, deviates=deviates
            )
        envelope = None if counting or deviates else self._scan(body, rules)
        if envelope is not None:
            return envelope
        envelope = self._read(body, rules, counting=counting)
        if takes_long_to_bound(envelope):
            return await self._offload.run(bounded, envelope, bounds)
        return bounded(envelope, bounds)

    def bounds(self, holds: Callable[[str], bool]) -> CostBounds:
        """What a caller may ask for, whose models ``holds`` knows by the names that providers call them."""
        return CostBounds(holds, self._max_choices)

    def read_small(
        self, body: bytes, rules: BodyRules, bounds: CostBounds, *, deviates: bool = False
    ) -> Envelope | None:
        """``read`` without waiting; None for a body that takes a thread."""
        if len(body) > self._offload.above:
            return None
        envelope = None if deviates else self._scan(body, rules)
        if envelope is not None:
            return envelope
        envelope = self._read(body, rules, counting=False)
        return None if takes_long_to_bound(envelope) else bounded(envelope, bounds)

    def _read_bounded(
        self, body: bytes, rules: BodyRules, bounds: CostBounds, *, counting: bool, deviates: bool
    ) -> Envelope:
        envelope = None if counting or deviates else self._scan(body, rules)
        return envelope or bounded(self._read(body, rules, counting=counting), bounds)

    def _scan(self, body: bytes, rules: BodyRules) -> Envelope | None:
        scan_rules = self._scan_rules.get(id(rules))
        if scan_rules is None:
            if rules.form is not None or rules.always_streams:
                return None
            scan_rules = rules.scan
            if rules.decoded:
                scan_rules = dataclasses.replace(scan_rules, max_values=self._max_values)
            self._scan_rules[id(rules)] = scan_rules
        envelope = scan_body(body, rules, scan_rules)
        if envelope is not None and self._is_deep and nests_deeper(body, self._max_nesting):
            return None
        return envelope

    def _read(self, body: bytes, rules: BodyRules, *, counting: bool) -> Envelope:
        if rules.decoded:
            check_values(body, self._max_values)
        if rules.form is not None:
            return rules.form(body)
        try:
            envelope = read_body(body, rules, counting=counting)
        except InvalidRequest:
            if nests_deeper(
                body, self._max_nesting
            ):  # so that it is called the same wherever the reading had to stop
                raise too_deep() from None
            raise
        if body_nests_deeper(body, envelope.fields.values(), self._max_nesting):
            raise too_deep()
        return envelope
