"""The events that staff are told of: one table, which rules, pages and the documentation read."""

from typing import Final, Literal, TypeGuard

import msgspec

Severity = Literal["info", "warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")
"""The least first."""
EventState = Literal["opened", "still_open", "recovered", "happened"]


class EventKind(msgspec.Struct, frozen=True):
    """``lasts``: it is open until it has passed, and told again while it stays, unless it is one that is told ``once``."""

    name: str
    severity: Severity
    what: str
    lasts: bool = True
    once: bool = False


_ROWS: Final = (
    EventKind("provider_key.refused", "critical", "A provider does not take a credential of ours"),
    EventKind("provider_key.out_of_money", "critical", "A provider says that our account there is used up"),
    EventKind("model.out", "critical", "All providers of a model are out"),
    EventKind("target.circuit_opened", "warning", "A provider's model fails too often, and is left alone for a while"),
    EventKind("target.near_limit", "warning", "A provider's limits are nearly used up, by what its answers say"),
    EventKind("model.sunset_near", "warning", "A vendor ends a model within thirty days", once=True),
    EventKind("service.part_down", "critical", "A part that the service needs does not work: the ledger, Redis"),
    EventKind("mail.failing", "warning", "Mails do not go out"),
    EventKind("webhook.failing", "warning", "A webhook does not take what is sent to it"),
    EventKind("export.failing", "warning", "A destination of exports takes nothing"),
    EventKind("ledger.difference", "warning", "Counts of a day are not those of the ledger's rows"),
    EventKind("trail.broken", "critical", "An entry of the trail is not as it was, or is gone"),
    EventKind("job.late", "warning", "Work that the service does by itself has not come to its end for twice its time"),
    EventKind("backup.old", "warning", "The last backup that the service knows of is older than it may be"),
    EventKind("abuse.burst", "warning", "Many new accounts, or many refused requests of an account, within an hour"),
    EventKind("release.available", "info", "There is a newer version of the service", once=True),
    EventKind("incident.open", "info", "An incident is told on the status page", once=True),
    EventKind("plan.asked", "info", "An account asks for another plan", once=True),
    EventKind("account.signed_up", "info", "A new account", lasts=False),
)  # fmt: skip
EVENT_KINDS: Final = {row.name: row for row in _ROWS}


def is_severity(text: str) -> TypeGuard[Severity]:
    """Whether there is such a severity."""
    return text in SEVERITIES


def reaches(least: str, severity: str) -> bool:
    """Whether a severity is at least the other."""
    return (
        is_severity(least) and is_severity(severity) and SEVERITIES.index(severity) >= SEVERITIES.index(least)
    )


def fits(pattern: str, event: str) -> bool:
    """Whether a rule's word means an event: its name, what stands before its point, or ``*`` for all."""
    return pattern in ("*", event, event.partition(".")[0])


def is_pattern(text: str) -> bool:
    """Whether a rule may say it."""
    return any(fits(text, name) for name in EVENT_KINDS)
