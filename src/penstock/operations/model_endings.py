"""Models that end: which of the catalogue's their vendors switch off, or the operator, what follows, and what is left.

The doctor, the start and the mail to the operator say it ``NOTICE_DAYS`` ahead, and of a vendor's end as long as the model is
in the catalogue.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import msgspec

from penstock.core.catalog import Model
from penstock.domain.catalog.catalog import Catalog
from penstock.operations.model_proposals import NOTICE_DAYS
from penstock.providers.retirements import retirement


class Ending(msgspec.Struct, frozen=True):
    """One place that serves a model of the catalogue, and ends. ``others``: the model is served elsewhere after that.

    ``provider``, ``name`` and ``source`` are '' where the catalogue itself ends the model.
    """

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
        if not self.provider:
            then = f"; {self.successor} follows" if self.successor else ""
            return f"{self.model} {when}, as the catalogue says{then}"
        then = f"; its vendor names {self.successor} as what follows" if self.successor else ""
        left = "its other providers serve it still" if self.others else "nothing else serves it"
        return f"{self.model}: {self.provider}'s {self.name} {when}{then}; {left}"


def endings(catalog: Catalog, today: date) -> Iterator[Ending]:
    """What of the catalogue ends within the notice, or has ended: by its own word, or at providers that are set up."""
    notice = timedelta(days=NOTICE_DAYS)
    for model in (*catalog.models.values(), *catalog.retired.values()):
        if model.sunset and f"{today - notice}" < model.sunset <= f"{today + notice}":
            yield Ending(model.id, "", "", model.sunset, model.successor, "", others=False)
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
                _has_others(catalog, model, place, end.day, today),
            )


def end_of(catalog: Catalog, model: Model) -> str:
    """The first day on which nothing serves a model any more; '' where no such day is known."""
    return min((day for day in (model.sunset, _vendors_end(catalog, model)) if day), default="")


class ModelEnding(msgspec.Struct, frozen=True):
    """The end of a model as everybody is told of it: the first day without it, and since when that is said (epoch ms)."""

    model: str
    day: str
    successor: str
    noticed_at: int


def told_to_all(catalog: Catalog, today: date) -> list[ModelEnding]:
    """The models that nothing will serve within the notice, and those that ended as short ago."""
    notice = timedelta(days=NOTICE_DAYS)
    found: list[ModelEnding] = []
    for model in (*catalog.models.values(), *catalog.retired.values()):
        day = end_of(catalog, model)
        if f"{today - notice}" < day <= f"{today + notice}":
            noticed = datetime.combine(date.fromisoformat(day) - notice, datetime.min.time(), UTC)
            found.append(ModelEnding(model.id, day, model.successor, int(noticed.timestamp() * 1000)))
    return found


def _vendors_end(catalog: Catalog, model: Model) -> str:
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


def _has_others(catalog: Catalog, model: Model, ending: int, day: str, today: date) -> bool:
    """Whether a provider that is set up serves the model by a name that does not end, or ends later than ``day``."""
    behind = max(day, f"{today}")
    for place, target in enumerate(model.targets):
        upstream = catalog.upstreams.get(target.provider)
        if place == ending or upstream is None:
            continue
        end = retirement(upstream.kind, target.model)
        if end is None or end.day > behind:
            return True
    return False
