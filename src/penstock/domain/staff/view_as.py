"""Viewing an account as its owner does: who of the staff sees whose pages, until when, sealed in a cookie of its own.

It is bound to the session of the member of the staff, and ends after half an hour. What may be seen by it is decided in
``site/session.py`` alone.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.accounts import audit
from penstock.domain.accounts.accounts import User
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import CallerError
from penstock.store.secrets_file import Entropy, SecretsFile, SecretsFileError

VIEW_MS: Final = 30 * 60_000
_ABOUT: Final = b"staff|view as"


class View(msgspec.Struct, frozen=True):
    """What the cookie says. ``until`` is epoch milliseconds, ``session`` that of the member of the staff."""

    staff: str
    session: str
    target: str
    until: int


class NotViewed(CallerError):
    """This account cannot be seen so."""

    status = 403
    code = "not_viewed"


_decode = msgspec.msgpack.Decoder(View).decode


async def begin(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    target: User,
    session: str,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> str:
    """Begin, and give the cookie's value; both logs have it. Raises ``NotViewed`` for an account of the staff."""
    if target.role:
        raise NotViewed("An account of the staff cannot be viewed.")
    view = View(actor.id, session, target.id, now + VIEW_MS)
    await _note(conn, target, actor, "view_started", "viewed_by_staff", now=now, entropy=entropy)
    sealed = secrets_file.seal(msgspec.msgpack.encode(view), _ABOUT, entropy)
    return urlsafe_b64encode(sealed).decode()


async def end(conn: AsyncConnection, target: User, actor: Actor, *, now: int, entropy: Entropy) -> None:
    """Note in both logs that it was stopped."""
    await _note(conn, target, actor, "view_stopped", "view_by_staff_ended", now=now, entropy=entropy)


async def _note(
    conn: AsyncConnection,
    target: User,
    actor: Actor,
    action: entries.TrailAction,
    own: audit.Action,
    *,
    now: int,
    entropy: Entropy,
) -> None:
    subject = Subject("user", target.id, target.email)
    acting = msgspec.structs.replace(actor, on_behalf_of=target.id)
    await entries.write(conn, acting, action, subject, now=now, entropy=entropy)
    await audit.note(conn, target.id, own, "", "", now=now, entropy=entropy)


def read(cookie: str, secrets_file: SecretsFile) -> View | None:
    """What a cookie says; None for one that is none of ours."""
    if not cookie:
        return None
    try:
        return _decode(secrets_file.unseal(urlsafe_b64decode(cookie.encode("ascii", "replace")), _ABOUT))
    except (NotBase64, SecretsFileError, msgspec.DecodeError):
        return None
