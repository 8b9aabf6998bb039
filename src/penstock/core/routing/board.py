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

    def health_of(self, candidate: Candidate) -> UpstreamHealth:
        """What is known of one of the candidates."""
        return self.health.of(candidate.attempt)
