"""Conditions that a process sees by itself: parts that do not work, upstreams that are out, models that end.

Said in our own words, with names of the catalogue: what a provider or a mail server has said is for the pages of the staff.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime

from penstock.core.amounts import amount
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.notifications.staff_events import Condition
from penstock.operations.health import Health
from penstock.operations.model_endings import endings


def conditions_of_parts(health: Health) -> list[Condition]:
    """Parts that do not work, and counts that differ."""
    found = [
        Condition("mail.failing", "mail", "Mails do not go out")
        if name == "mail"
        else Condition("service.part_down", name, f"The part {name} does not work")
        for name in health.down()
    ]
    if health.differences:
        places = amount(health.differences, "place")
        text = f"Yesterday's counts differ from the ledger's rows in {places}"
        found.append(Condition("ledger.difference", "ledger", text))
    if health.trail_broken is not None:
        text = f"The trail is broken at the entry {health.trail_broken}"
        found.append(Condition("trail.broken", "trail", text))
    found += [
        Condition(
            "job.late", name, f"The job {name} has not come to its end for {int(seconds // 60)} minutes"
        )
        for name, seconds in health.jobs.late().items()
    ]
    return found


class ModelEndings:
    """Models of the catalogue that end; worked out again when the catalogue or the day is another."""

    def __init__(self, catalog: Callable[[], Catalog], now: Callable[[], float]) -> None:
        """``now`` gives epoch seconds."""
        self._catalog = catalog
        self._now = now
        self._known: tuple[Catalog, date] | None = None
        self._found: list[Condition] = []

    def conditions(self) -> list[Condition]:
        """One for each model."""
        catalog, today = self._catalog(), datetime.fromtimestamp(self._now(), UTC).date()
        if self._known is None or self._known[0] is not catalog or self._known[1] != today:
            self._known = (catalog, today)
            by_model = {it.model: it.told(today) for it in endings(catalog, today)}
            self._found = [Condition("model.sunset_near", model, text) for model, text in by_model.items()]
        return self._found
