"""Keys of providers, for programs: listed without the keys themselves, added, changed, rotated and removed.

A key comes in the body of a request alone, is checked with its provider as on the page, and is in no answer. These operations
wait for the provider, so they cannot be tried without doing them.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.catalog import Upstream
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.kept_keys import LONGEST_KEY, checked_key
from penstock.domain.staff import provider_changes
from penstock.domain.staff.provider_changes import Changing, KeyEntry
from penstock.domain.trail.entries import Actor
from penstock.errors import CallerError
from penstock.site.admin.context import AdminContext
from penstock.site.admin.provider_view import KeyView, ProviderDesk, good_enough, refusal_words
from penstock.site.admin_api.dispatch import (
    AdminCall,
    Bound,
    BoundApart,
    BoundOperation,
    Listed,
    Nothing,
    NotThere,
)

KeyText = Annotated[str, Meta(max_length=LONGEST_KEY, description="The key itself; no answer has it")]
KeyName = Annotated[str, Meta(max_length=64)]
KeyWeight = Annotated[int, Meta(ge=0, le=1 << 31)]
KeyReason = Annotated[str, Meta(max_length=300)]


class KeyNotTaken(CallerError):
    """The provider does not take the key, or could not be asked; nothing is saved."""

    status = 422
    code = "key_not_taken"


class ProviderKeyShown(msgspec.Struct, frozen=True):
    """A key of a provider: its reference or the end of what was entered, its state, and who comes back from it by itself.

    Times are epoch milliseconds. ``set_by`` is ``staff`` or ``service``, '' where nothing is said of it.
    """

    id: str
    secret: str
    managed_by: str
    fingerprint: str
    problem: str
    weight: int
    group: str
    added_by: str
    created_at: int | None
    retire_at: int | None
    state: str
    why: str
    until: int | None
    set_by: str
    running: int


class ProviderKeyAdded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new key. ``anyway`` saves it where the provider cannot be reached or has no money; a refused one never."""

    secret: KeyText
    id: KeyName = ""
    weight: KeyWeight = 1
    group: KeyName = ""
    anyway: bool = False
    reason: KeyReason = ""


class ProviderKeyChanged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a key is used; what is left out stays. ``secret`` puts another key in its place at once."""

    weight: KeyWeight | None = None
    group: KeyName | None = None
    secret: KeyText | None = None
    reason: KeyReason = ""


class ProviderKeyRotated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key that takes the place of one, which is drained and leaves later."""

    secret: KeyText
    anyway: bool = False
    reason: KeyReason = ""


class ProviderKeyRemoved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``leaked``: it is deleted at once, and not kept sealed for 30 days."""

    leaked: bool = False
    reason: KeyReason = ""


class ProxyWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``http://host:port`` ('': straight), and what it wants to know, ``user:password`` (null: that stays as it is)."""

    proxy: Annotated[str, Meta(max_length=300)]
    secret: KeyText | None = None
    reason: KeyReason = ""


class ProxyShown(msgspec.Struct, frozen=True):
    """How the provider is reached: the proxy, and the reference to what it is told."""

    id: str
    proxy: str
    secret: str


class KeyGone(msgspec.Struct, frozen=True):
    """The key that is no longer in the pool."""

    id: str


class ProviderKeyRoutes:
    """What is done with the keys of providers."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site
        self._desk = ProviderDesk(context)
        self._checks = context.operation.checks

    def operations(self) -> Mapping[str, BoundOperation]:
        """Every operation by its name in the table."""
        return {
            "provider_key_list": Bound(self.keys, Listed[ProviderKeyShown], Nothing, Nothing),
            "provider_key_show": Bound(self.key, ProviderKeyShown, Nothing, Nothing),
            "provider_key_add": BoundApart(self.add, ProviderKeyShown, Nothing, ProviderKeyAdded),
            "provider_key_change": BoundApart(self.change, ProviderKeyShown, Nothing, ProviderKeyChanged),
            "provider_key_rotate": BoundApart(self.rotate, ProviderKeyShown, Nothing, ProviderKeyRotated),
            "provider_proxy": Bound(self.proxy, ProxyShown, Nothing, ProxyWanted),
            "provider_key_remove": BoundApart(self.remove, KeyGone, Nothing, ProviderKeyRemoved),
        }

    async def keys(
        self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection
    ) -> Listed[ProviderKeyShown]:
        """The keys of a provider, in their order."""
        return Listed([_shown(view) for view in await self._views(conn, call.path["id"])])

    async def key(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> ProviderKeyShown:
        """One of them."""
        return await self._view(conn, call.path["id"], call.path["key"])

    async def add(self, call: AdminCall[Nothing, ProviderKeyAdded]) -> ProviderKeyShown:
        """Add a key to the pool, once the provider has taken it."""
        wanted, row = call.body, await self._row(call.path["id"])
        key = await self._checked(row, wanted.secret, anyway=wanted.anyway)
        entry = KeyEntry(key, wanted.id or provider_changes.free_id(row), wanted.weight, wanted.group)
        async with self._site.database.transaction() as conn:
            await provider_changes.add_key(self._changing(conn, call.actor, wanted.reason), row.id, entry)
        return await self._after(row, entry.id)

    async def change(self, call: AdminCall[Nothing, ProviderKeyChanged]) -> ProviderKeyShown:
        """Change how a key is used, and with ``secret`` the key itself."""
        wanted, row, id = call.body, await self._row(call.path["id"]), call.path["key"]
        old = next((it for it in provider_changes.pool_of(row) if it.id == id), None)
        if old is None:
            raise NotThere("There is no such key.")
        key = None if wanted.secret is None else await self._checked(row, wanted.secret, anyway=False)
        async with self._site.database.transaction() as conn:
            await provider_changes.change_key(
                self._changing(conn, call.actor, wanted.reason),
                row.id,
                id,
                weight=old.weight if wanted.weight is None else wanted.weight,
                group=old.group if wanted.group is None else wanted.group,
                key=key,
            )
        return await self._after(row, id)

    async def rotate(self, call: AdminCall[Nothing, ProviderKeyRotated]) -> ProviderKeyShown:
        """Put a new key in the place of one, which is drained and leaves later."""
        wanted, row = call.body, await self._row(call.path["id"])
        key = await self._checked(row, wanted.secret, anyway=wanted.anyway)
        stays = int(self._context.operation.settings.rotated_key_stays * 1000)
        async with self._site.database.transaction() as conn:
            change = self._changing(conn, call.actor, wanted.reason)
            leaves = self._site.now() + stays
            fresh = await provider_changes.rotate_key(change, row.id, call.path["key"], key, retire_at=leaves)
        return await self._after(row, fresh)

    async def remove(self, call: AdminCall[Nothing, ProviderKeyRemoved]) -> KeyGone:
        """Take a key out of the pool."""
        wanted, id = call.body, call.path["key"]
        await self._checks.follow()
        async with self._site.database.transaction() as conn:
            await provider_changes.remove_key(
                self._changing(conn, call.actor, wanted.reason),
                call.path["id"],
                id,
                self._checks.available,
                leaked=wanted.leaked,
            )
        return KeyGone(id)

    async def proxy(self, call: AdminCall[Nothing, ProxyWanted], conn: AsyncConnection) -> ProxyShown:
        """Reach the provider by a proxy, or straight."""
        wanted, id = call.body, call.path["id"]
        secret = None if wanted.secret is None else checked_key(wanted.secret)
        change = self._changing(conn, call.actor, wanted.reason)
        await provider_changes.set_proxy(change, id, wanted.proxy, secret)
        document = await catalog_store.load_document(conn, self._desk.kinds)
        reach = next(row.reach for row in document.providers if row.id == id)
        return ProxyShown(id, reach.proxy, reach.proxy_secret)

    # ---- what they share

    async def _row(self, id: str) -> Upstream:
        found = next((row for row in (await self._desk.document()).providers if row.id == id), None)
        if found is None:
            raise NotThere("There is no such provider.")
        return found

    async def _checked(self, row: Upstream, secret: str, *, anyway: bool) -> bytes:
        """The key that was sent, taken by its provider. Raises ``UnusableKey``, ``KeyNotTaken``."""
        key = checked_key(secret)
        listing = await self._checks.check(row, key)
        if not good_enough(listing, anyway=anyway):
            raise KeyNotTaken(refusal_words(listing), param="secret")
        return key

    def _changing(self, conn: AsyncConnection, actor: Actor, reason: str) -> Changing:
        site = self._site
        return Changing(conn, site.secrets_file, self._desk.kinds, actor, site.now(), site.entropy, reason)

    async def _after(self, row: Upstream, id: str) -> ProviderKeyShown:
        await self._checks.follow()
        async with self._site.database.connect() as conn:
            return await self._view(conn, row.id, id)

    async def _view(self, conn: AsyncConnection, provider: str, id: str) -> ProviderKeyShown:
        found = next((view for view in await self._views(conn, provider) if view.id == id), None)
        if found is None:
            raise NotThere("There is no such key.")
        return _shown(found)

    async def _views(self, conn: AsyncConnection, provider: str) -> list[KeyView]:
        document = await catalog_store.load_document(conn, self._desk.kinds)
        row = next((row for row in document.providers if row.id == provider), None)
        if row is None:
            raise NotThere("There is no such provider.")
        return (await self._desk.views(conn, document, [row]))[row.id]


def _shown(view: KeyView) -> ProviderKeyShown:
    report = view.report
    return ProviderKeyShown(
        view.id,
        view.shown,
        view.managed_by,
        view.fingerprint,
        view.problem,
        view.weight,
        view.group,
        view.added_by,
        view.created_at,
        view.retire_at,
        view.state,
        report.why,
        report.until,
        report.by,
        report.in_flight,
    )
