"""Hints that processes give each other about upstreams: each round tells what was met here, and hears what others have met.

What is known here of a circuit counts for more than any hint; the rules are those of ``core/routing/circuit_breaker.py``.
"""

from collections.abc import Callable, Mapping

from penstock.core.catalog import Model
from penstock.core.routing.circuit_breaker import Circuit, Hint
from penstock.core.routing.health import CircuitName, Health
from penstock.store.hints import HintStore, StoredHint


class SharedHints:
    """One per process. Requests have nothing to do with it."""

    def __init__(
        self,
        store: HintStore | None,
        health: Health,
        models: Callable[[], Mapping[str, Model]],
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """Without a ``store`` nothing is told and nothing heard.

        ``models`` are the catalogue's; ``clock`` is monotonic, ``now`` gives epoch seconds."""
        self._store = store
        self._health = health
        self._models = models
        self._clock = clock
        self._now = now
        self._heard: dict[CircuitName, StoredHint] = {}
        """What others tell, as it was last read."""

    async def round(self) -> None:
        """Hear, and tell. Where the store is away both are done in a later round."""
        store = self._store
        if store is None:
            return
        circuits = self._named()
        found = await store.read_hints(list(circuits)) if circuits else []
        if found is None:
            return
        for (name, circuit), stored in zip(circuits.items(), found, strict=True):
            if stored is None or stored.by != store.node:
                self._hear(name, circuit, stored)
            self._tell(store, name, circuit, stored)
        self._heard = {name: stored for name, stored in self._heard.items() if name in circuits}

    def _named(self) -> dict[CircuitName, Circuit]:
        """Those that the catalogue names: behind a wildcard the names are callers' words."""
        named = {
            (target.provider, target.model) for model in self._models().values() for target in model.targets
        }
        return {
            name: circuit
            for name, circuit in self._health.shared()
            if name[0] == "credential" or name[1:3] in named
        }

    def _hear(self, name: CircuitName, circuit: Circuit, stored: StoredHint | None) -> None:
        before = self._heard.get(name)
        if stored == before:
            return
        at = self._now()
        if stored is not None:
            self._heard[name] = stored
            until = self._clock() + stored.until / 1000 - at
            self._health.hear(circuit, Hint(stored.opened, until, stored.cause), self._clock())
            return
        del self._heard[name]
        if before is not None and before.until > at * 1000:  # else it has ended by itself, and is probed
            self._health.hear(circuit, None, self._clock())

    def _tell(self, store: HintStore, name: CircuitName, circuit: Circuit, stored: StoredHint | None) -> None:
        clock = self._clock()
        mine = stored is not None and stored.by == store.node
        hint = circuit.hint(clock)
        if hint is None:
            if mine and not circuit.suspect:
                store.withdraw_hint(name)
            return
        left = int((hint.until - clock) * 1000)
        until = int(self._now() * 1000) + left
        # the two clocks drift apart by some milliseconds from round to round
        if left > 0 and (
            stored is None or until > stored.until + _SAME or (mine and until < stored.until - _SAME)
        ):
            store.write_hint(name, StoredHint(store.node, hint.opened, until, hint.cause), left)


_SAME = 100
"""Milliseconds by which two ends may differ and be the same."""
