"""Changes of providers and their keys by staff and commands: added, changed, rotated and removed, in one transaction each.

The row of the provider is changed as any other change of the catalogue is (``catalog_changes.py``), so it is kept before and
after and can be undone; the key is sealed beside it (``domain/catalog/kept_keys.py``), and the trail has its fingerprint.
What comes from the environment or a file is read and shown, and never changed here.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.catalog import KEPT, Credential, Model, Upstream
from penstock.core.routing.switches import Reach, Switch
from penstock.domain.catalog import kept_keys, upstream_state
from penstock.domain.catalog.catalog_revision import raise_revision
from penstock.domain.catalog.catalog_store import load_document
from penstock.domain.catalog.kept_keys import KeptKey
from penstock.domain.catalog.toml_document import CatalogDocument, parse
from penstock.domain.catalog.toml_writer import dump
from penstock.domain.staff import catalog_changes
from penstock.domain.staff.catalog_changes import Kinds
from penstock.domain.staff.upstream_switches import NoSuchUpstream, switch_upstream
from penstock.domain.trail import entries
from penstock.domain.trail.entries import SYSTEM, Actor, FieldValue, Subject
from penstock.errors import CallerError
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.schema import upstream_state as upstream_state_table

FIRST: Final = "key-1"
"""How the first key is called that is entered for a provider."""
FROM_OUTSIDE: Final = "outside"
"""How the secret of the environment or of a file is called once there are keys beside it."""
_TAKES_KEYS: Final = frozenset({"x-api-key", "bearer", "api-key"})
_NUMBERED: Final = re.compile(r"^(.*?)-(\d{1,6})$")
_TOLD: Final = 5


class CannotChange(CallerError):
    """The provider or its key cannot be changed so: the text says why, and what would help."""

    status = 409
    code = "cannot_change_provider"


class KeyEntry(msgspec.Struct, frozen=True):
    """A key as somebody entered it, checked by ``kept_keys.checked_key``."""

    key: bytes
    id: str = FIRST
    weight: int = 1
    group: str = ""

    def __repr__(self) -> str:
        return f"KeyEntry({self.id})"


class Changing(msgspec.Struct, frozen=True):
    """What every change needs: where, by whom, why and when. ``now`` is epoch milliseconds."""

    conn: AsyncConnection
    secrets_file: SecretsFile
    kinds: Kinds
    actor: Actor
    now: int
    entropy: Entropy
    reason: str = ""

    async def document(self) -> CatalogDocument:
        """The catalogue, which nobody else changes until the transaction ends."""
        await raise_revision(self.conn)
        return await load_document(self.conn, self.kinds)

    async def apply(self, row: Upstream) -> None:
        """Have the provider so. Raises ``CatalogError``."""
        document = parse(dump(CatalogDocument(providers=(row,))), self.kinds)
        await catalog_changes.apply_change(
            self.conn,
            document,
            self.kinds,
            self.actor,
            reason=self.reason,
            now=self.now,
            entropy=self.entropy,
        )

    async def keep(self, row: Upstream, key: bytes) -> KeptKey:
        """Seal a key. Raises ``CannotChange`` where the provider has it already."""
        kept = await kept_keys.kept_keys(self.conn, row.id)
        known = {it.fingerprint for it in kept.values() if it.reference in row.secrets}
        prints = {digest.hex()[:8] for digest in self.secrets_file.digests(key.decode())}
        if known & prints:
            raise CannotChange("This key is there already.")
        return await kept_keys.keep_key(
            self.conn, self.secrets_file, row, key, self.actor.name, now=self.now, entropy=self.entropy
        )

    async def note(
        self,
        action: entries.TrailAction,
        provider: str,
        credential: str,
        before: dict[str, FieldValue] | None,
        after: dict[str, FieldValue] | None,
    ) -> None:
        """Write an entry about a credential."""
        name = f"{provider}/{credential}"
        await entries.write(
            self.conn,
            self.actor,
            action,
            Subject("credential", name, name),
            before=before,
            after=after,
            reason=self.reason,
            now=self.now,
            entropy=self.entropy,
        )


def pool_of(row: Upstream) -> tuple[Credential, ...]:
    """The credentials of a provider, where it has one secret as well."""
    return row.credentials or ((Credential(FROM_OUTSIDE, row.secret),) if row.secret else ())


def free_id(row: Upstream) -> str:
    """How the next key of a provider is called, where nobody says it."""
    taken = {it.id for it in pool_of(row)}
    return next(name for number in range(1, len(taken) + 2) if (name := f"key-{number}") not in taken)


def managed_by(reference: str) -> str:
    """Who changes what a reference leads to: the pages, or what the service was started with."""
    if reference.startswith(KEPT):
        return "page"
    return reference if reference.startswith("file:") else "environment"


async def add_provider(change: Changing, row: Upstream, key: bytes | None) -> Upstream:
    """Add a provider, with its first key. Raises ``CannotChange``, ``CatalogError``."""
    document = await change.document()
    if any(it.id == row.id for it in document.providers):
        raise CannotChange(
            f"There is a provider {row.id} already: add the key to it, or choose another name."
        )
    row = msgspec.structs.replace(row, secret="", credentials=())
    parse(
        dump(CatalogDocument(providers=(row,))), change.kinds
    )  # what is wrong in it is told before a key is sealed
    if key is None:
        await change.apply(row)
        return row
    _takes_keys(row)
    kept = await change.keep(row, key)
    row = msgspec.structs.replace(row, credentials=(Credential(FIRST, kept.reference),))
    await change.apply(row)
    await change.note("credential_added", row.id, FIRST, None, _shown(kept))
    return row


async def add_key(change: Changing, provider: str, entry: KeyEntry) -> None:
    """Add a key to a provider's pool. Raises ``NoSuchUpstream``, ``CannotChange``, ``CatalogError``."""
    row = _provider(await change.document(), provider)
    _takes_keys(row)
    pool = pool_of(row)
    if any(it.id == entry.id for it in pool):
        raise CannotChange(f"There is a key {entry.id} already: choose another name.")
    kept = await change.keep(row, entry.key)
    added = Credential(entry.id, kept.reference, entry.weight, entry.group)
    await change.apply(_with(row, (*pool, added)))
    await change.note("credential_added", provider, entry.id, None, _shown(kept))


async def change_key(
    change: Changing, provider: str, id: str, *, weight: int, group: str, key: bytes | None = None
) -> None:
    """Change how a key is used; with ``key`` the key itself, at once. Raises as ``add_key`` does."""
    row = _provider(await change.document(), provider)
    old = _credential(row, id)
    changed = msgspec.structs.replace(old, weight=weight, group=group)
    kept = None
    if key is not None:
        _entered_here(old)
        kept = await change.keep(row, key)
        changed = msgspec.structs.replace(changed, secret=kept.reference)
    before = (await kept_keys.kept_keys(change.conn, provider)).get(old.secret)
    await change.apply(_with(row, tuple(changed if it.id == id else it for it in pool_of(row))))
    if kept is not None:
        await change.note("credential_rotated", provider, id, _shown(before), _shown(kept))


async def rotate_key(change: Changing, provider: str, id: str, key: bytes, *, retire_at: int) -> str:
    """Put a new key in the place of one, which is drained and leaves the pool at ``retire_at``; gives the new one's id.

    What comes from the environment or a file is drained, and stays. Raises as ``add_key`` does.
    """
    row = _provider(await change.document(), provider)
    _takes_keys(row)
    old, pool = _credential(row, id), pool_of(row)
    new_id = _next_id(id, {it.id for it in pool})
    kept = await change.keep(row, key)
    fresh = msgspec.structs.replace(old, id=new_id, secret=kept.reference)
    placed = [each for it in pool for each in ((fresh, it) if it.id == id else (it,))]
    await change.apply(_with(row, tuple(placed)))
    await switch_upstream(
        change.conn,
        Switch(Reach(provider, id), "drain", why=_replaced_by(new_id)),
        change.kinds,
        change.actor,
        now=change.now,
        entropy=change.entropy,
    )
    if old.secret.startswith(KEPT):
        await kept_keys.retire_key(change.conn, old.secret, retire_at)
    before = (await kept_keys.kept_keys(change.conn, provider)).get(old.secret)
    await change.note("credential_rotated", provider, new_id, _shown(before), _shown(kept))
    return new_id


async def set_proxy(change: Changing, provider: str, proxy: str, secret: bytes | None) -> None:
    """Have a provider reached by a proxy ('': straight), which is told ``secret``, a ``user:password``.

    None leaves what it is told as it is, where the address stays. Raises ``NoSuchUpstream``, ``CannotChange`` and
    ``CatalogError``.
    """
    row = _provider(await change.document(), provider)
    old, proxy = row.reach, proxy.strip()
    before = (await kept_keys.kept_keys(change.conn, provider)).get(old.proxy_secret)
    moved = proxy != old.proxy and before is not None and bool(proxy)
    if moved and secret is None:
        raise CannotChange("The password was entered for another address of the proxy: enter it again.")
    if secret is not None and (b":" not in secret or not proxy):
        raise CannotChange("Write user:password, and the address of the proxy.")
    reach = msgspec.structs.replace(old, proxy=proxy, proxy_secret=old.proxy_secret if proxy else "")
    reach = msgspec.structs.replace(reach, no_proxy=reach.no_proxy if proxy else ())
    changed, kept = msgspec.structs.replace(row, reach=reach), None
    parse(
        dump(CatalogDocument(providers=(msgspec.structs.replace(changed, secret="", credentials=()),))),
        change.kinds,
    )
    if secret is not None:
        kept = await kept_keys.keep_key(
            change.conn,
            change.secrets_file,
            row,
            secret,
            change.actor.name,
            now=change.now,
            entropy=change.entropy,
            origins=kept_keys.proxy_origins(changed),
        )
        reach = msgspec.structs.replace(reach, proxy_secret=kept.reference)
        changed = msgspec.structs.replace(row, reach=reach)
    await change.apply(changed)
    if kept is not None or (before is not None and not proxy):
        action: entries.TrailAction = "credential_removed" if kept is None else "credential_added"
        await change.note(action, provider, "proxy", _shown(before), _shown(kept))


async def remove_key(
    change: Changing, provider: str, id: str, available: Callable[[str], bool], *, leaked: bool = False
) -> None:
    """Take a key out of the pool. It stays sealed while that can be undone; one that has ``leaked`` is deleted at once.

    ``available`` tells whether a reference leads to a secret. Raises ``CannotChange`` where a model would have nobody.
    """
    document = await change.document()
    row = _provider(document, provider)
    old = _credential(row, id)
    _entered_here(old)
    left = tuple(it for it in pool_of(row) if it.id != id)
    if not left:
        raise CannotChange("This is its only key: add another one first, or remove the provider.")
    lost = _left_alone(document, row, _with(row, left), available)
    if lost:
        raise CannotChange(f"No other key or provider would serve {_some(lost)}: add one first.")
    await _take_out(change, row, old, left)
    if leaked:
        await kept_keys.shred_key(change.conn, old.secret)


async def remove_provider(change: Changing, provider: str) -> None:
    """Remove a provider with its keys, and its targets from the models that others serve too. Raises ``CannotChange``."""
    document = await change.document()
    row = _provider(document, provider)
    alone = [
        it.id for it in document.models if it.targets and all(t.provider == provider for t in it.targets)
    ]
    if alone:
        raise CannotChange(
            f"Nobody else serves {_some(alone)}: give these another provider, or take them out of the catalogue first."
        )
    wanted = msgspec.structs.replace(
        document,
        providers=tuple(it for it in document.providers if it.id != provider),
        models=tuple(_without(model, provider) for model in document.models),
    )
    await catalog_changes.apply_change(
        change.conn,
        wanted,
        change.kinds,
        change.actor,
        prune=True,
        reason=change.reason,
        now=change.now,
        entropy=change.entropy,
    )
    known = await kept_keys.kept_keys(change.conn, provider)
    for credential in pool_of(row):
        if credential.secret in known:
            await change.note(
                "credential_removed", provider, credential.id, _shown(known[credential.secret]), None
            )
    await _forget_switches(change.conn, provider)


async def retire_due(change: Changing) -> int:
    """Take the keys out of their pools whose time after a rotation has come; how many."""
    due = [
        it
        for it in (await kept_keys.kept_keys(change.conn)).values()
        if it.retire_at is not None and it.retire_at <= change.now and it.unused_at is None
    ]
    if not due:
        return 0
    document = await change.document()
    count = 0
    for key in due:
        row = next((row for row in document.providers if key.reference in row.secrets), None)
        pool = () if row is None else pool_of(row)
        left = tuple(it for it in pool if it.secret != key.reference)
        if row is not None and left:
            await _take_out(change, row, next(it for it in pool if it.secret == key.reference), left)
            document = await change.document()
            count += 1
        await kept_keys.retire_key(change.conn, key.reference, None)
    return count


async def after_undo(conn: AsyncConnection, before: CatalogDocument, kinds: Kinds, *, now: int) -> None:
    """What a change of the catalogue that was undone leaves to do: who was drained for a key that is gone works again."""
    after = {row.id: row for row in (await load_document(conn, kinds)).providers}
    said = await upstream_state.all_said(conn)
    for row in before.providers:
        there = {it.id: it for it in pool_of(after[row.id])} if row.id in after else {}
        for gone in (it for it in pool_of(row) if it.id not in there):
            await _forget_switches(conn, row.id, gone.id)
            for switch in said:
                drained = there.get(switch.reach.credential)
                if (
                    switch.reach.provider == row.id
                    and switch.why == _replaced_by(gone.id)
                    and drained is not None
                ):
                    await upstream_state.say(
                        conn,
                        msgspec.structs.replace(switch, state="on", why="", changed_at=now),
                    )
                    await kept_keys.retire_key(conn, drained.secret, None)


def system_change(
    conn: AsyncConnection, secrets_file: SecretsFile, kinds: Kinds, *, now: int, entropy: Entropy
) -> Changing:
    """A change that the service makes by itself."""
    return Changing(conn, secrets_file, kinds, SYSTEM, now, entropy, "its time after the rotation is over")


# ---- what they share


async def _take_out(change: Changing, row: Upstream, old: Credential, left: Sequence[Credential]) -> None:
    before = (await kept_keys.kept_keys(change.conn, row.id)).get(old.secret)
    await change.apply(_with(row, tuple(left)))
    await _forget_switches(change.conn, row.id, old.id)
    await change.note("credential_removed", row.id, old.id, _shown(before), None)


async def _forget_switches(conn: AsyncConnection, provider: str, credential: str = "") -> None:
    """Of what is gone, so that one of the same name begins anew."""
    columns = upstream_state_table.c
    gone = delete(upstream_state_table).where(columns.provider == provider)
    await conn.execute(gone.where(columns.credential == credential) if credential else gone)


def _provider(document: CatalogDocument, id: str) -> Upstream:
    row = next((row for row in document.providers if row.id == id), None)
    if row is None:
        raise NoSuchUpstream(f"There is no provider {id}.")
    return row


def _credential(row: Upstream, id: str) -> Credential:
    found = next((it for it in pool_of(row) if it.id == id), None)
    if found is None:
        raise NoSuchUpstream(f"{row.id} has no key {id}.")
    return found


def _takes_keys(row: Upstream) -> None:
    if row.auth not in _TAKES_KEYS:
        raise CannotChange(f"{row.id} signs in by {row.auth}, which is set up in the catalogue's text.")


def _entered_here(credential: Credential) -> None:
    if not credential.secret.startswith(KEPT):
        raise CannotChange(f"This key comes from {credential.secret}: change it there.")


def _with(row: Upstream, pool: tuple[Credential, ...]) -> Upstream:
    return msgspec.structs.replace(row, secret="", credentials=pool)


def _without(model: Model, provider: str) -> Model:
    left = tuple(target for target in model.targets if target.provider != provider)
    return model if left == model.targets else msgspec.structs.replace(model, targets=left)


def _left_alone(
    document: CatalogDocument, was: Upstream, becomes: Upstream, available: Callable[[str], bool]
) -> list[str]:
    """The models that somebody serves now and nobody would then."""

    def served(model: Model, rows: Sequence[Upstream]) -> bool:
        ready = {row.id for row in rows if any(available(name) for name in row.secrets)}
        return any(target.provider in ready for target in model.targets)

    then = [becomes if row.id == was.id else row for row in document.providers]
    return [
        model.id for model in document.models if served(model, document.providers) and not served(model, then)
    ]


def _next_id(id: str, taken: set[str]) -> str:
    """The id of the key that takes the place of one: ``key-1`` is followed by ``key-2``."""
    found = _NUMBERED.match(id)
    stem, number = (found[1], int(found[2])) if found else (id[:50], 1)
    while (name := f"{stem}-{number + 1}") in taken:
        number += 1
    return name


def _replaced_by(id: str) -> str:
    return f"rotated: {id} has taken its place"


def _shown(key: KeptKey | None) -> dict[str, FieldValue] | None:
    return None if key is None else {"fingerprint": key.fingerprint, "id": key.id}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more
