"""Form of an API key: what its fields hold, and what it asks for. The same for its owner and for staff."""

from datetime import UTC, datetime

import msgspec

from penstock.domain.catalog.catalog import Plan
from penstock.domain.keys.management import BadKeyWish, KeyRow, KeyWish
from penstock.errors import InvalidRequest
from penstock.site.pages import date_of
from penstock.site.session import SubmittedForm

_MODEL_BOX = "model:"
"""What the names of the boxes of models begin with."""
GRACES = (("0", "at once"), ("3600", "in an hour"), ("86400", "in a day"), ("604800", "in a week"))
"""When a rolled key stops working: seconds, and how it is said."""


class KeyFields(msgspec.Struct, frozen=True):
    """What the fields of the form hold."""

    name: str = ""
    expires: str = ""
    addresses: str = ""
    daily: str = ""
    concurrent: str = ""
    models: tuple[str, ...] = ()
    """Those that are ticked."""


def fields_of_key(row: KeyRow) -> KeyFields:
    """The form of a key as it is."""
    return KeyFields(
        row.name,
        date_of(row.expires_at),
        " ".join(row.addresses or ()),
        str(row.daily_requests or ""),
        str(row.concurrent_requests or ""),
        row.models or (),
    )


def fields_sent(form: SubmittedForm) -> KeyFields:
    """The form as it was filled in, to be mended."""
    return KeyFields(
        form.text("name"),
        form.text("expires"),
        form.text("addresses"),
        form.text("daily"),
        form.text("concurrent"),
        form.chosen(_MODEL_BOX),
    )


def asked_key(form: SubmittedForm, plan: Plan, old: KeyRow | None = None) -> KeyWish:
    """What the form asks for; ``plan`` is that of the account, ``old`` the key that is changed. Raises ``BadKeyWish``."""
    models = tuple(dict.fromkeys((*form.chosen(_MODEL_BOX), *(_list(form.text("models")) or ())))) or None
    kept = () if old is None else old.models or ()
    unknown = [name for name in models or () if name not in plan.models and name not in kept]
    if unknown:
        raise BadKeyWish(
            f"The plan {plan.name} has no model {', '.join(name[:100] for name in unknown[:5])}.",
            param="models",
        )
    return KeyWish(
        name=form.text("name") or None,
        models=models,
        addresses=_list(form.text("addresses")),
        expires_at=_end(form.text("expires"), None if old is None else old.expires_at),
        daily_requests=_number(form.text("daily"), "daily"),
        concurrent_requests=_number(form.text("concurrent"), "concurrent"),
    )


def asked_grace(form: SubmittedForm) -> int:
    """For how many seconds a key that is rolled still works. Raises ``InvalidRequest``."""
    grace = form.text("grace")
    if grace not in dict(GRACES):
        raise InvalidRequest("Choose when the old key stops working.", param="grace")
    return int(grace)


def _end(text: str, before: int | None) -> int | None:
    """When a key ends; the day on which it ends already is no change. Raises ``BadKeyWish``."""
    if not text:
        return None
    try:
        end = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadKeyWish(
            "The day on which a key expires has the form 2026-12-31.", param="expires"
        ) from error
    at = int(end.timestamp() * 1000)
    return before if before is not None and before // 86_400_000 == at // 86_400_000 else at


def _number(text: str, name: str) -> int | None:
    """A limit of a form; None where nothing is written. Raises ``BadKeyWish``."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise BadKeyWish("A limit is a whole number, or nothing.", param=name)
    return int(text)


def _list(text: str) -> tuple[str, ...] | None:
    return tuple(text.replace(",", " ").split()) or None
