"""Models that their vendors end: which of the catalogue's are served where that is so, what follows, and what is left.

The doctor, the start and the mail to the operator say it ``NOTICE_DAYS`` ahead, and as long as the model is in the catalogue.
"""

from collections.abc import Iterator
from datetime import date, timedelta

import msgspec

from penstock.core.catalog import Model
from penstock.domain.catalog.catalog import Catalog
from penstock.operations.model_proposals import NOTICE_DAYS
from penstock.providers.retirements import retirement


class Ending(msgspec.Struct, frozen=True):
    """One place that serves a model of the catalogue, and ends. ``others``: the model is served elsewhere as well."""

    model: str
    provider: str
    name: str
    """The provider's name of it."""
    day: str
    """The first day on which it does not answer; '' where it has ended on a day that is not known."""
    successor: str
    source: str
    others: bool

    def told(self, today: date) -> str:
        """In a sentence, for the operator."""
        over = not self.day or date.fromisoformat(self.day) <= today
        when = f"ended on {self.day}" if over and self.day else "has ended" if over else f"ends on {self.day}"
        then = f"; its vendor names {self.successor} as what follows" if self.successor else ""
        left = "its other providers serve it still" if self.others else "nothing else serves it"
        return f"{self.model}: {self.provider}'s {self.name} {when}{then}; {left}"


def endings(catalog: Catalog, today: date) -> Iterator[Ending]:
    """What of the catalogue ends within the notice, or has ended, at providers that are set up."""
    if catalog.simulated:
        return
    for model in catalog.models.values():
        for place, target in enumerate(model.targets):
            upstream = catalog.upstreams.get(target.provider)
            end = None if upstream is None else retirement(upstream.kind, target.model)
            if end is None or (end.day and date.fromisoformat(end.day) > today + timedelta(days=NOTICE_DAYS)):
                continue
            yield Ending(
                model.id,
                target.provider,
                target.model,
                end.day,
                end.successor,
                end.source,
                _has_others(catalog, model, place),
            )


def end_of(catalog: Catalog, model: Model) -> str:
    """The first day on which nothing serves a model any more, as its vendors say; '' where no such day is known."""
    days: list[str] = []
    for target in model.targets:
        upstream = catalog.upstreams.get(target.provider)
        if upstream is None:
            continue
        end = retirement(upstream.kind, target.model)
        if end is None or not end.day:
            return ""
        days.append(end.day)
    return max(days, default="")


def _has_others(catalog: Catalog, model: Model, ending: int) -> bool:
    """Whether a provider that is set up serves the model by a name that does not end."""
    return any(
        place != ending
        and (upstream := catalog.upstreams.get(target.provider)) is not None
        and retirement(upstream.kind, target.model) is None
        for place, target in enumerate(model.targets)
    )
