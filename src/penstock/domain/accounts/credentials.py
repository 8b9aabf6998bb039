"""Credentials of an account: its password and its second factor, as they are kept.

The second factor is a time-based code (RFC 6238, SHA-1, 30 seconds, six digits, as every authenticator app has it), with
recovery codes for the day on which the phone is lost. ``now`` is epoch milliseconds; every function takes a connection
inside a transaction.
"""

import hashlib
import hmac
from base64 import b32encode
from typing import Final

import msgspec
from pyotp.totp import TOTP
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.sealed import SealedColumn
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import upsert
from penstock.store.sql.schema import credentials, recovery_codes

TOTP_STEP_SECONDS = 30
DRIFT_STEPS = 1
"""How many steps an authenticator's clock may be off, either way."""
RECOVERY_CODES = 10


class Credentials(msgspec.Struct, frozen=True):
    """``password`` is a hash, None where none was set. ``second_factor``: a code is wanted at sign-in."""

    password: str | None = None
    password_at: int | None = None
    totp_sealed: bytes | None = None
    totp_at: int | None = None
    totp_step: int | None = None

    @property
    def second_factor(self) -> bool:
        return self.totp_at is not None


async def credentials_of(conn: AsyncConnection, user_id: str) -> Credentials:
    """What the account has."""
    columns = credentials.c
    row = await conn.execute(
        select(*(columns[name] for name in Credentials.__struct_fields__)).where(columns.user_id == user_id)
    )
    found = row.one_or_none()
    return Credentials() if found is None else Credentials(*found)


async def set_password(conn: AsyncConnection, user_id: str, hashed: str | None, *, now: int) -> None:
    """Set or replace the password's hash; None leaves the account without a password."""
    row = {"user_id": user_id, "password": hashed, "password_at": now}
    await conn.execute(upsert(conn, credentials, ("user_id",), ("password", "password_at")), row)


async def renew_hash(conn: AsyncConnection, user_id: str, old: str, hashed: str) -> None:
    """Keep a hash of the same password with today's parameters."""
    await conn.execute(
        update(credentials)
        .where(credentials.c.user_id == user_id, credentials.c.password == old)
        .values(password=hashed)
    )


# ---- the second factor


async def begin_second_factor(
    conn: AsyncConnection, secrets_file: SecretsFile, user_id: str, *, entropy: Entropy
) -> str:
    """A new secret, base32, which counts once a code of it was given."""
    secret = b32encode(entropy(20)).decode()
    sealed = secrets_file.seal(secret.encode(), _about(user_id), entropy)
    row = {"user_id": user_id, "totp_sealed": sealed, "totp_at": None, "totp_step": None}
    await conn.execute(upsert(conn, credentials, ("user_id",), ("totp_sealed", "totp_at", "totp_step")), row)
    return secret


def secret_of(secrets_file: SecretsFile, user_id: str, kept: Credentials) -> str | None:
    """The secret that was begun or counts, base32."""
    return (
        None if kept.totp_sealed is None else secrets_file.unseal(kept.totp_sealed, _about(user_id)).decode()
    )


async def use_second_factor(
    conn: AsyncConnection, secrets_file: SecretsFile, user_id: str, digits: str, *, now: int
) -> bool:
    """Whether this is a code of the account's, not used before: time-based, or a recovery code, which is then gone."""
    kept = await credentials_of(conn, user_id)
    secret = secret_of(secrets_file, user_id, kept)
    digits = "".join(digits.split()).lower()
    if secret is not None and len(digits) == 6 and digits.isdecimal() and digits.isascii():
        step = _step(secret, digits, now)
        if step is None:
            return False
        columns = credentials.c
        unused = columns.totp_step.is_(None) | (columns.totp_step < step)
        ours = await conn.execute(
            update(credentials).where(columns.user_id == user_id, unused).values(totp_step=step)
        )
        return ours.rowcount == 1
    gone = await conn.execute(
        delete(recovery_codes).where(
            recovery_codes.c.user_id == user_id, recovery_codes.c.digest == _recovery_digest(digits)
        )
    )
    return gone.rowcount == 1


async def confirm_second_factor(
    conn: AsyncConnection, user_id: str, *, now: int, entropy: Entropy
) -> list[str]:
    """From now on it is wanted. Gives new recovery codes, which are shown this once."""
    await conn.execute(update(credentials).where(credentials.c.user_id == user_id).values(totp_at=now))
    return await renew_recovery_codes(conn, user_id, entropy=entropy)


async def renew_recovery_codes(conn: AsyncConnection, user_id: str, *, entropy: Entropy) -> list[str]:
    """New recovery codes in place of all older ones."""
    codes = [_recovery_code(entropy) for _ in range(RECOVERY_CODES)]
    await conn.execute(delete(recovery_codes).where(recovery_codes.c.user_id == user_id))
    await conn.execute(
        insert(recovery_codes), [{"user_id": user_id, "digest": _recovery_digest(code)} for code in codes]
    )
    return codes


async def recovery_codes_left(conn: AsyncConnection, user_id: str) -> int:
    """How many recovery codes were not used yet."""
    left = select(func.count()).select_from(recovery_codes).where(recovery_codes.c.user_id == user_id)
    return await conn.scalar(left) or 0


async def drop_second_factor(conn: AsyncConnection, user_id: str) -> None:
    """It is no longer wanted; its secret and recovery codes are gone."""
    gone = {"totp_sealed": None, "totp_at": None, "totp_step": None}
    await conn.execute(update(credentials).where(credentials.c.user_id == user_id).values(**gone))
    await conn.execute(delete(recovery_codes).where(recovery_codes.c.user_id == user_id))


def _step(secret: str, digits: str, now: int) -> int | None:
    """The time step that ``digits`` belongs to, within the drift that is allowed."""
    current = now // 1000 // TOTP_STEP_SECONDS
    totp = TOTP(secret)
    for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
        if hmac.compare_digest(digits, totp.generate_otp(step)):
            return step
    return None


def _recovery_code(entropy: Entropy) -> str:
    """64 bits in base32, in two groups: ``abcdef-ghijklm``."""
    text = b32encode(entropy(8)).decode().rstrip("=").lower()
    return f"{text[:6]}-{text[6:]}"


def _recovery_digest(code: str) -> bytes:
    return hashlib.sha256(f"recovery code|{code.strip().lower()}".encode()).digest()


def _about(user_id: str) -> bytes:
    return f"credentials|{user_id}|totp_sealed".encode()


SEALED_SECOND_FACTORS: Final = SealedColumn(credentials.c.totp_sealed, (credentials.c.user_id,), _about)
