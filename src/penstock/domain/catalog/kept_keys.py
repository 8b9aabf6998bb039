"""Kept keys: credentials of providers that were entered in the pages or by a command, sealed in the database.

The catalogue names one by a reference, ``kept:PROVIDER/ID``, beside ``env:`` and ``file:``; no text of the catalogue holds the
key itself. Nothing here gives a key out but ``open_keys``, for the process that signs requests with it. A key is good for the
provider and the addresses that it was entered for, so that whoever may change an address cannot have a key sent to another.
A key that no provider has any more stays sealed as long as the change can be undone, and is then deleted.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.core.base_url import split_base_url
from penstock.core.catalog import KEPT, Upstream
from penstock.domain.trail.changes import CHANGE_UNDO_MS
from penstock.errors import CallerError
from penstock.store.sealed import SealedColumn
from penstock.store.secrets_file import Entropy, SecretsFile, SecretsFileError
from penstock.store.sql.schema import provider_keys

LONGEST_KEY: Final = 8192
"""Characters of a key; Google's tokens have about two thousand."""
_SHOWN_FROM: Final = 16
"""Characters of a key from which its last four give nothing away."""
_MASKS: Final = ("\u2022", "\u25cf", "\u2026", "***", "...", "(hidden)")
_REFERENCES: Final = ("env:", "file:", KEPT)

_encode = msgspec.json.encode
_decode_origins = msgspec.json.Decoder(tuple[str, ...]).decode


class UnusableKey(CallerError):
    """What was entered is no key: it is masked, a reference, or cannot be a header's value."""

    status = 422
    code = "unusable_key"


class KeptKey(msgspec.Struct, frozen=True):
    """A key as it may be shown. Times are epoch milliseconds."""

    id: str
    provider_id: str
    fingerprint: str
    last4: str
    origins: tuple[str, ...]
    added_by: str
    created_at: int
    retire_at: int | None
    unused_at: int | None

    @property
    def reference(self) -> str:
        """How the catalogue names it."""
        return f"{KEPT}{self.provider_id}/{self.id}"

    @property
    def masked(self) -> str:
        """What is shown in its place."""
        return f"\u2022\u2022\u2022\u2022 {self.last4}".rstrip()


class OpenedKey(msgspec.Struct, frozen=True):
    """What a reference leads to. ``value`` None: to nothing, for the ``problem``; ``shut``: the key ring does not open it."""

    reference: str
    value: bytes | None = None
    problem: str = ""
    shut: bool = False

    def __repr__(self) -> str:
        return f"OpenedKey({self.reference})"


def checked_key(text: str) -> bytes:
    """The key that was entered. Raises ``UnusableKey``, which never repeats it."""
    key = text.strip()
    if any(mask in key for mask in _MASKS):
        raise UnusableKey(
            "This is a masked key, not the key itself. Enter the whole key, or leave the field empty."
        )
    if key.startswith(_REFERENCES):
        raise UnusableKey("This is a reference, not a key. Write env: and file: in the catalogue's text.")
    if not key or len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise UnusableKey("A key is one line of printable ASCII characters.")
    return key.encode()


def origins_of(row: Upstream) -> tuple[str, ...]:
    """Where a provider's key is sent to: scheme, host and port of each of its addresses."""
    urls = [url for _, url in row.speaks]
    if row.sign_in.authority:
        urls.append(row.sign_in.authority)
    parts = [split_base_url(url) for url in urls]
    return tuple(sorted({f"{part.scheme}://{part.host}:{part.port}" for part in parts}))


def origins_for(row: Upstream, reference: str) -> tuple[str, ...]:
    """The same of one of its references: what a proxy wants to know is sent to the proxy alone."""
    return proxy_origins(row) if reference == row.reach.proxy_secret else origins_of(row)


def proxy_origins(row: Upstream) -> tuple[str, ...]:
    """Where the password for a provider's proxy is sent to."""
    part = split_base_url(row.reach.proxy)
    return (f"proxy {part.host}:{part.port}",)


async def keep_key(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    row: Upstream,
    key: bytes,
    added_by: str,
    *,
    now: int,
    entropy: Entropy,
    origins: tuple[str, ...] = (),
) -> KeptKey:
    """Seal a key for a provider as it is set up now; ``origins`` say where it is sent, if not to its own addresses."""
    id = api_key.identifier("pvk", entropy(16))
    text = key.decode()
    kept = KeptKey(
        id,
        row.id,
        secrets_file.digests(text)[0].hex()[:8],
        text[-4:] if len(text) >= _SHOWN_FROM else "",
        origins or origins_of(row),
        added_by[:320],
        now,
        None,
        None,
    )
    await conn.execute(
        insert(provider_keys).values(
            id=id,
            provider_id=row.id,
            sealed=secrets_file.seal(key, _about(id, row.id), entropy),
            fingerprint=kept.fingerprint,
            last4=kept.last4,
            origins=_encode(kept.origins).decode(),
            added_by=kept.added_by,
            created_at=now,
        )
    )
    return kept


async def kept_keys(conn: AsyncConnection, provider_id: str = "") -> dict[str, KeptKey]:
    """All keys, or those of one provider, by their references."""
    query = select(*_SHOWN).order_by(provider_keys.c.created_at, provider_keys.c.id)
    if provider_id:
        query = query.where(provider_keys.c.provider_id == provider_id)
    found = [
        KeptKey(
            row.id,
            row.provider_id,
            row.fingerprint,
            row.last4,
            _decode_origins(row.origins),
            row.added_by,
            row.created_at,
            row.retire_at,
            row.unused_at,
        )
        for row in await conn.execute(query)
    ]
    return {key.reference: key for key in found}


async def open_keys(
    conn: AsyncConnection, secrets_file: SecretsFile, providers: Sequence[Upstream]
) -> list[OpenedKey]:
    """What the references of these providers lead to. A reference that nobody has is not opened."""
    wanted = [(row, name) for row in providers for name in row.references if name.startswith(KEPT)]
    if not wanted:
        return []
    columns = provider_keys.c
    rows = await conn.execute(select(columns.id, columns.provider_id, columns.origins, columns.sealed))
    sealed = {f"{KEPT}{provider}/{id}": (id, origins, data) for id, provider, origins, data in rows}
    found: list[OpenedKey] = []
    for row, reference in wanted:
        if reference not in sealed or not reference.startswith(f"{KEPT}{row.id}/"):
            found.append(OpenedKey(reference, problem="there is no such key here any more: enter it again"))
            continue
        id, origins, data = sealed[reference]
        strange = [origin for origin in origins_for(row, reference) if origin not in _decode_origins(origins)]
        if strange:
            text = f"it was entered before the address became {', '.join(strange)}: enter it again"
            found.append(OpenedKey(reference, problem=text))
            continue
        try:
            found.append(OpenedKey(reference, secrets_file.unseal(data, _about(id, row.id))))
        except SecretsFileError as error:
            found.append(OpenedKey(reference, problem=str(error), shut=True))
    return found


async def retire_key(conn: AsyncConnection, reference: str, at: int | None) -> None:
    """Say when a key leaves its pool; None: it stays."""
    await conn.execute(
        update(provider_keys).where(provider_keys.c.id == _id_of(reference)).values(retire_at=at)
    )


async def shred_key(conn: AsyncConnection, reference: str) -> None:
    """Delete a key for good."""
    await conn.execute(delete(provider_keys).where(provider_keys.c.id == _id_of(reference)))


async def tidy_keys(conn: AsyncConnection, providers: Sequence[Upstream], *, now: int) -> int:
    """Note which keys no provider has, and delete those that none has had for as long as a change can be undone."""
    columns = provider_keys.c
    named = {_id_of(name) for row in providers for name in row.references if name.startswith(KEPT)}
    rows = (await conn.execute(select(columns.id, columns.unused_at))).all()
    left = [id for id, unused in rows if id not in named and unused is None]
    back = [id for id, unused in rows if id in named and unused is not None]
    gone = [
        id for id, unused in rows if id not in named and unused is not None and now - unused > CHANGE_UNDO_MS
    ]
    for ids, at in ((left, now), (back, None)):
        if ids:
            await conn.execute(update(provider_keys).where(columns.id.in_(ids)).values(unused_at=at))
    if gone:
        await conn.execute(delete(provider_keys).where(columns.id.in_(gone)))
    return len(gone)


async def any_kept_key(conn: AsyncConnection) -> bool:
    """Whether a key of a provider is kept at all."""
    return await conn.scalar(select(provider_keys.c.id).limit(1)) is not None


async def check_seals(conn: AsyncConnection, secrets_file: SecretsFile) -> None:
    """Raises ``SecretsFileError`` where the ring lacks what a provider's key was sealed with: it would sign in no more."""
    columns = provider_keys.c
    rows = await conn.execute(select(columns.provider_id, columns.sealed).where(columns.unused_at.is_(None)))
    lost = sorted({provider for provider, sealed in rows if not secrets_file.has_seal(sealed)})
    if lost:
        raise SecretsFileError(
            f"keys of {', '.join(lost)} in the database were sealed with what {secrets_file.path} does not hold: "
            "put the secrets file back that belongs to this database"
        )


def _id_of(reference: str) -> str:
    return reference.rpartition("/")[2]


def _about(id: str, provider_id: str) -> bytes:
    return f"provider_keys|{id}|{provider_id}|sealed".encode()


SEALED_PROVIDER_KEYS: Final = SealedColumn(
    provider_keys.c.sealed, (provider_keys.c.id, provider_keys.c.provider_id), _about
)


_SHOWN = tuple(provider_keys.c[name] for name in KeptKey.__struct_fields__)
