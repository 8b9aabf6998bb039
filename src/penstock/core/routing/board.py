"""Boards: the candidates of a model beside what is known of each, as the choice looks at them."""

from penstock.core.routing.candidates import Candidate, Group, Tier
from penstock.core.routing.health import Health, ModelHealth, UpstreamHealth

Entry = tuple[Candidate, UpstreamHealth, float]
"""A candidate, what is known of it, and its weight."""
Ranked = tuple[Tier, list[Entry]]


class Board:
    """One model for callers of one dialect, for one revision of the catalogue."""

    __slots__ = ("group", "health", "known", "tiers")

    def __init__(self, group: Group, health: Health) -> None:
        self.group = group
        self.health = health
        self.known: ModelHealth = health.model(group.model.id)
        if group.limited:
            for tier in group.tiers:
                for candidate in tier.candidates:
                    health.limit(candidate)
        self.tiers: list[Ranked] = [
            (
                tier,
                [
                    (candidate, health.of(candidate.attempt), weight)
                    for candidate, weight in zip(tier.candidates, tier.weights, strict=True)
                ],
            )
            for tier in group.tiers
        ]

    @property
    def limited(self) -> bool:
        """Somebody takes only so many requests at once: as the catalogue says, or as was learned."""
        return self.group.limited or self.health.bounded > 0

    def places(self) -> int:
        """How many requests those that take only so many take together."""
        everybody = [known for _, entries in self.tiers for _, known, _ in entries]
        told = {id(each): each.limit for known in everybody for each in known.capacities}
        learned = [
            int(known.learned.limit)
            for known in everybody
            if known.learned is not None and not known.capacities
        ]
        return sum(told.values()) + sum(learned)

    def health_of(self, candidate: Candidate) -> UpstreamHealth:
        """What is known of one of the candidates."""
        return self.health.of(candidate.attempt)
