"""Texts of every mail, in one place. A code is never in a subject: subjects are shown on locked screens."""

from collections.abc import Sequence

from penstock.core.amounts import amount
from penstock.core.quoting import shell_option
from penstock.domain.mail.outbox import Mail

_NOT_YOU = "If you did not ask for this, ignore this mail: nothing happens without the code."


def verification(brand: str, recipient: str, code: str) -> Mail:
    """To whoever signs up."""
    return Mail(
        "verification",
        recipient,
        f"Your {brand} code",
        (
            f"Enter this code to verify your e-mail address and switch on your {brand} API key:",
            "It works for ten minutes, in the browser in which you signed up.",
            _NOT_YOU,
        ),
        code,
    )


def existing_account(brand: str, recipient: str, url: str) -> Mail:
    """To the owner of an account whose address was used to sign up again."""
    return Mail(
        "existing_account",
        recipient,
        f"You already have a {brand} account",
        (
            f"Somebody, probably you, tried to sign up to {brand} with this address. You have an account already.",
            f"Sign in at {url}/signin, or set a new password at {url}/forgot.",
            "If it was not you, there is nothing to do.",
        ),
    )


def reset(brand: str, recipient: str, code: str) -> Mail:
    """To whoever has forgotten the password."""
    return Mail(
        "reset",
        recipient,
        f"Your {brand} code",
        (
            "Enter this code to set a new password:",
            "It works for ten minutes, in the browser in which you asked for it.",
            _NOT_YOU,
        ),
        code,
    )


def new_address(brand: str, recipient: str, code: str) -> Mail:
    """To the new address of an account."""
    return Mail(
        "new_address",
        recipient,
        f"Your {brand} code",
        (f"Enter this code to make this the address of your {brand} account:", _NOT_YOU),
        code,
    )


def address_changed(brand: str, recipient: str, new: str) -> Mail:
    """To the old address of an account."""
    return Mail(
        "address_changed",
        recipient,
        f"The e-mail address of your {brand} account has changed",
        (
            f"The address is now {new}.",
            "If it was not you, answer this mail or write to the operator at once.",
        ),
    )


def password_changed(brand: str, recipient: str, url: str) -> Mail:
    """To the owner, after every change of the password."""
    return Mail(
        "password_changed",
        recipient,
        f"Your {brand} password has changed",
        (
            "Every other session of your account has been ended.",
            f"If it was not you, set a new password at {url}/forgot, and look at your API keys.",
        ),
    )


def deletion(brand: str, recipient: str, url: str, day: str) -> Mail:
    """To the owner who asked for the account to be deleted."""
    return Mail(
        "deletion",
        recipient,
        f"Your {brand} account will be deleted",
        (
            f"Your account and its keys will be deleted on {day}. The keys work no longer.",
            f"To keep it, sign in before that at {url}/signin and undo the deletion; the keys then work again.",
        ),
    )


def plan_set(brand: str, recipient: str, plan: str, url: str) -> Mail:
    """To the owner of an account whose plan has changed."""
    return Mail(
        "plan_set",
        recipient,
        f"You are on the {brand} plan {plan} now",
        (
            f"The operator of {brand} has set your plan to {plan}. It holds from now on, for the day that runs as well.",
            f"What it allows: {url}/plan",
        ),
    )


def day_used(
    brand: str, recipient: str, url: str, *, plan: str, used: int, limit: int, share: int, hours: int
) -> Mail:
    """To the owner of an account that has used at least ``share`` per cent of its day, which ends in ``hours``."""
    spent = used >= limit
    subject = (
        f"{brand}: the requests of today are used up"
        if spent
        else f"{brand}: {share}% of the requests of today are used"
    )
    return Mail(
        "day_used",
        recipient,
        subject,
        (
            f"Your account has used {used:,} of the {limit:,} requests a day of the plan {plan}. "
            + (
                "More are answered with 429 until the day ends"
                if spent
                else "When they are used up, more are answered with 429 until the day ends"
            )
            + f", at 00:00 UTC: in about {amount(hours, 'hour')}.",
            f"What used them: {url}/usage?length=day",
            f"A plan with more: {url}/plan. To get no such mails: {url}/settings.",
        ),
    )


def plan_asked(brand: str, recipient: str, email: str, plan: str) -> Mail:
    """To the operators: somebody wants another plan."""
    return Mail(
        "plan_asked",
        recipient,
        f"{brand}: {email} asks for the plan {plan}",
        (
            f"{email} asks for the plan {plan}. To give it:",
            f"penstock user set {shell_option('email', email)} {shell_option('plan', plan)}",
        ),
    )


def upstream_alert(brand: str, recipient: str, text: str) -> Mail:
    """To the operators: something of a provider is out, and only they can mend it."""
    return Mail(
        "upstream_alert",
        recipient,
        f"{brand}: {text}",
        (
            text,
            "What is known, with the provider's own words: penstock upstreams",
            "You get one mail an hour of this kind at most; the log has every cause.",
        ),
    )


_REFUSED = {
    "auth": "does not take the credential of this service",
    "quota": "says that this service's account is used up",
    "missing": "says that it does not have a model that the catalogue asks it for",
}
"""What a provider does, by the class of its failure."""


def provider_refused(
    brand: str,
    recipient: str,
    *,
    kind: str,
    provider: str,
    model: str,
    what: str,
    status: int | None,
    text: str,
) -> Mail:
    """To the operators: a provider refuses, and only they can mend it. ``kind`` tells mails of one cause from others."""
    answered = f"It answered {status}" if status is not None else "It gave no status"
    return Mail(
        kind,
        recipient,
        f"{brand}: {provider} refuses requests",
        (
            f"The provider {provider} {_REFUSED.get(what, 'refuses requests')} (asked for {model}).",
            f"{answered}: {text}" if text else f"{answered}, and no text that could be told.",
            "Requests go to other providers of the model where there are any; the rest is answered 502.",
            "You get one such mail an hour for each provider and cause, as long as it lasts.",
        ),
    )


def model_ending(brand: str, recipient: str, *, kind: str, model: str, text: str, source: str) -> Mail:
    """To the operators: a model of the catalogue ends. ``kind`` names it and how near that is, ``source`` who has said so.

    '' is the catalogue itself.
    """
    read = (f"Where that was read: {source}",) if source else ()
    todo = (
        "Give it another target, or take it out, before callers find out: penstock models"
        if source
        else "From that day on it is a 404 that names what follows."
    )
    return Mail(
        kind,
        recipient,
        f"{brand}: {model} ends",
        (
            f"{text}.",
            *read,
            todo,
            "You get this thirty days ahead, seven days ahead, and on the day.",
        ),
    )


def model_leaves(
    brand: str, recipient: str, url: str, *, kind: str, model: str, day: str, successor: str = ""
) -> Mail:
    """To an account that uses a model which nothing will serve any more. ``kind`` names the model and the day."""
    choose = f"{successor} takes its place" if successor else "Choose another model before that day"
    return Mail(
        kind,
        recipient,
        f"{brand}: {model} ends on {day}",
        (
            f"You have used {model} in the last four weeks. It ends on {day}, and answers no more from then on.",
            f"{choose}: {url}/models",
            "Until then its answers say so in the headers Deprecation and Sunset. You get this once.",
        ),
    )


def trial_mail(brand: str, recipient: str) -> Mail:
    """To whoever tries the way that mails take."""
    return Mail(
        "test",
        recipient,
        f"{brand}: a test mail",
        (f"{brand} can send mails: this one was asked for by its operator.", "There is nothing to do."),
    )


def staff_letter(brand: str, recipient: str, event: str, lines: Sequence[str]) -> Mail:
    """To an address that a rule names: one event, or several at once."""
    several = event in ("summary", "digest.daily")
    subject = f"{brand}: {amount(len(lines), 'event')}" if several else f"{brand}: {lines[0]}"
    return Mail(
        "staff_letter",
        recipient,
        subject,
        (*lines, "A rule of the service sends this to you; its staff can change it under Notifications."),
    )


def daily_digest(brand: str, recipient: str, url: str, waits: Sequence[str], changed: Sequence[str]) -> Mail:
    """To the operators, once a day: what waits for somebody, and what has changed since the last one."""
    parts: list[str] = []
    if waits:
        parts += [f"Waits for somebody: {len(waits)}", *waits]
    if changed:
        parts += ["Since the last digest:", *changed]
    subject = f"{brand}: {len(waits)} wait for somebody" if waits else f"{brand}: what has changed"
    return Mail("digest_daily", recipient, subject, (*parts, f"All of it: {url}/admin"))
