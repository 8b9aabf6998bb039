"""Explanations: what a refused or failed request wants its owner to do, and what a limit looked like when it was reached."""

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.failure_classes.classes import FailureClass
from penstock.core.limits import day_of, reset_of
from penstock.domain.ledger import history, refusals
from penstock.domain.ledger.history import Receipt
from penstock.domain.ledger.refusals import Refusal

MINUTE_MS: Final = 60_000


class Remedy(msgspec.Struct, frozen=True):
    """What to do about an error, and the page where that is done."""

    text: str
    path: str = ""
    link: str = ""


_BODY = "Mend the field that the answer names, and send it again: the same request gets the same answer."
_LATER = "Nothing is wrong with the request. Send it again; most clients do so by themselves."
_OPERATOR = "Nothing is wrong with the request. Only the operator of this service can mend it."

REMEDIES: Final[dict[str, Remedy]] = {
    "invalid_request": Remedy(_BODY, "/docs/errors", "Errors"),
    "context_length_exceeded": Remedy(
        "The prompt does not fit this model. Shorten the conversation, or take a model with more room.",
        "/models",
        "Models",
    ),
    "invalid_api_key": Remedy("The key has ended. Make another one, or roll it.", "/keys", "API keys"),
    "email_not_verified": Remedy("Enter the code from the mail.", "/verify", "Verify the address"),
    "account_disabled": Remedy("The operator of this service has disabled the account. Ask them."),
    "account_leaving": Remedy(
        "The account is being deleted, as its owner asked. That can be undone.", "/settings", "Settings"
    ),
    "address_not_allowed": Remedy(
        "The key has a list of addresses, and this one is not on it. Use another key, or change the list.",
        "/keys",
        "API keys",
    ),
    "model_not_on_plan": Remedy(
        "Your plan, or the key's own list, does not have this model. Name one that it has, or ask for another plan.",
        "/plan",
        "Plans and their models",
    ),
    "model_not_found": Remedy(
        "There is no model of this name. Copy one from the list of models.", "/models", "Models"
    ),
    "route_not_found": Remedy(
        "There is no such address. Look at the base URL of your client: most want it as it stands here.",
        "/docs/quickstart",
        "Base URL",
    ),
    "method_not_allowed": Remedy("The address is right, the method is not.", "/docs/api", "API reference"),
    "request_timeout": Remedy("The request did not arrive in time. Look at the network, and send it again."),
    "request_too_large": Remedy("Shorten the conversation, or send smaller images and files."),
    "encoded_body": Remedy(
        "Send the body as it is, or in a coding that the answer names in Accept-Encoding."
    ),
    "upgrade_refused": Remedy(
        "Web sockets are not served here. Clients that know that go on over HTTP by themselves."
    ),
    "previous_response_not_found": Remedy(
        "Answers are not stored here. Send the whole conversation; most clients do so after this error."
    ),
    "headers_too_large": Remedy("Send fewer headers, or shorter ones."),
    "ended_by_owner": Remedy("You have ended it yourself, under live slots."),
    "rate_limit_reached": Remedy(
        "Counting tokens has a limit by the minute of its own.", "/docs/limits", "Limits"
    ),
    "daily_limit_reached": Remedy(
        "Wait for the reset, or ask for a plan with more requests.", "/plan", "Plans"
    ),
    "concurrent_limit_reached": Remedy(
        "Clients that try again by themselves get through when a slot is free. Otherwise send fewer at once, or ask for a "
        "plan with more slots.",
        "/slots",
        "Live slots",
    ),
    "key_daily_limit_reached": Remedy(
        "This key has a limit of its own, which is reached; the account may have more left. Wait for the reset, use another "
        "key, or raise the key's limit.",
        "/keys",
        "API keys",
    ),
    "key_concurrent_limit_reached": Remedy(
        "This key has a limit of its own for what runs at once. Wait for one of its requests to end, or raise the key's limit.",
        "/keys",
        "API keys",
    ),
    "too_many_refused_requests": Remedy(
        "Mend what was refused before: those errors are counted, and a key with too many waits until the minute is over.",
        "/requests?outcome=refused",
        "Refused requests",
    ),
    "overloaded": Remedy(_LATER),
    "draining": Remedy(_LATER),
    "cannot_record": Remedy(_LATER),
    "database_unavailable": Remedy(_LATER),
    "no_provider": Remedy(
        "No provider is set up for this model here. Take another model, or ask the operator.",
        "/models",
        "Models that are served",
    ),
    "internal_error": Remedy("A fault of this service. Tell the operator the id of the request."),
    "provider_error": Remedy(_LATER),
    "provider_unreachable": Remedy(_LATER),
    "provider_timeout": Remedy(_LATER),
    "provider_cut": Remedy(_LATER),
    "provider_garbled": Remedy(_LATER),
    "provider_overloaded": Remedy(_LATER),
    "provider_credentials": Remedy(_OPERATOR),
}
"""By the code of the error."""

ATTEMPT_WORDS: Final[Mapping[str, str]] = {
    FailureClass.UNREACHABLE: "It could not be reached.",
    FailureClass.STALE: "It had closed the connection.",
    FailureClass.BROKEN: "It answered with a fault of its own.",
    FailureClass.OVERLOAD: "It had no capacity.",
    FailureClass.RATE: "It had enough of our requests for the moment.",
    FailureClass.QUOTA: "Our account there was used up.",
    FailureClass.AUTH: "It did not take our credentials.",
    FailureClass.MISSING: "It does not have the model.",
    FailureClass.SLOW: "It kept silent for too long.",
    FailureClass.EMPTY: "Its answer was empty.",
    FailureClass.TOO_LONG: "The prompt did not fit there.",
    FailureClass.REASONING_REJECTED: "It could not read reasoning that was made elsewhere.",
    FailureClass.CALLER: "It refused the request as wrong.",
    FailureClass.REFUSAL: "It would not answer.",
    FailureClass.GONE: "Nobody waited for the answer any more.",
    FailureClass.OURS: "We stopped it.",
}
"""What came of an attempt, by the class of its failure, for the customer: nothing of it is the provider's own text."""
_UNKNOWN: Final = Remedy("Read the message, and the page on errors.", "/docs/errors", "Errors")


def remedy_for(code: str | None) -> Remedy:
    """What to do about an error of this code."""
    return REMEDIES.get(code or "", _UNKNOWN)


class Held(msgspec.Struct, frozen=True):
    """A request that held a slot when another was refused. ``row`` is None while it is not in the ledger yet."""

    id: str
    since: int
    row: Receipt | None

    @property
    def freed_at(self) -> int | None:
        """When it ended, in epoch milliseconds; None while it runs, and where nobody knows."""
        if self.row is None or self.row.total_ms is None:
            return None
        return self.row.created_at + self.row.total_ms


class Limit(msgspec.Struct, frozen=True):
    """The limit that a request came up against, as it was then. ``free_at`` is when it let requests through again."""

    kind: str
    free_at: int | None = None
    held: tuple[Held, ...] = ()
    more_held: int = 0
    of_key: bool = False
    refused: tuple[tuple[str, int], ...] = ()


async def limit_of(conn: AsyncConnection, refusal: Refusal) -> Limit | None:
    """Which limit a refusal was for; None where it was for none."""
    match refusal.code:
        case "daily_limit_reached" | "key_daily_limit_reached":
            free_at = reset_of(day_of(refusal.created_at / 1000)) * 1000
            return Limit("day", free_at=free_at, of_key=refusal.code.startswith("key_"))
        case "concurrent_limit_reached" | "key_concurrent_limit_reached":
            held: list[Held] = []
            for holder in refusal.holders:
                row = await history.find(conn, refusal.user_id, holder.id)
                held.append(Held(holder.id, holder.since, row))
            ends = [one.freed_at for one in held if one.freed_at is not None]
            return Limit(
                "slots",
                free_at=min(ends, default=None),
                held=tuple(held),
                more_held=max(0, (refusal.used or 0) - len(held)),
                of_key=refusal.code.startswith("key_"),
            )
        case "too_many_refused_requests" | "rate_limit_reached":
            free_at = refusal.created_at + (refusal.retry_after or 0) * 1000
            counts = await refusals.within(
                conn, refusal.user_id, refusal.key_id, free_at - MINUTE_MS - 1000, refusal.created_at + 1
            )
            mine = tuple(it for it in counts if it[0] != refusal.code)
            return Limit(
                "refused" if refusal.code.startswith("too") else "minute", free_at=free_at, refused=mine
            )
        case _:
            return None


BILLED_BY: Final = (
    ("audio_input_tokens", "Sound read"),
    ("audio_output_tokens", "Sound written"),
    ("accepted_prediction_tokens", "Predicted, accepted"),
    ("rejected_prediction_tokens", "Predicted, rejected"),
    ("web_searches", "Searches"),
    ("web_fetches", "Pages fetched"),
    ("code_runs", "Runs of code"),
    ("file_searches", "Searches of files"),
    ("other_tool_runs", "Other tools of the provider"),
)
"""What few answers are billed by, by the names of ``Special``: shown where there is any."""
