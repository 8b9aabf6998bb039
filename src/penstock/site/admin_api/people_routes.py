"""Accounts, keys, staff and tokens, for programs."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.limits import day_of
from penstock.domain.accounts import accounts, plan_wishes
from penstock.domain.accounts.accounts import Changes, User
from penstock.domain.keys import management
from penstock.domain.keys.management import KeyRow, KeyWish, NewKey
from penstock.domain.ledger import history
from penstock.domain.staff import membership, people, search, tokens
from penstock.domain.staff.membership import StaffMember
from penstock.domain.staff.people import Post
from penstock.domain.staff.search import PeopleFilter
from penstock.domain.staff.tokens import AdminToken
from penstock.errors import InvalidRequest
from penstock.site.admin.context import AdminContext
from penstock.site.admin_api.dispatch import AdminCall, Bound, BoundOperation, Listed, Nothing, NotThere

ShortText = Annotated[str, Meta(max_length=320)]
Limit = Annotated[int, Meta(ge=1, le=200, description="Rows of a page")]
Millis = Annotated[int, Meta(ge=0, le=1 << 53, description="Epoch milliseconds")]


class PeopleQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which accounts: whose address begins so, of which plan, in which state."""

    q: ShortText = ""
    plan: ShortText = ""
    state: ShortText = ""
    after: ShortText = ""
    limit: Limit = 50


class AccountFields(msgspec.Struct, frozen=True):
    """An account. Times are epoch milliseconds; ``role`` is '' of who is not of the staff."""

    id: str
    email: str
    plan: str
    role: str
    created_at: int
    verified_at: int | None
    disabled_at: int | None
    leaving_at: int | None


class AccountShown(AccountFields, frozen=True):
    """The same, with what it has used today (UTC), what runs, and which plan it asks for."""

    used_today: int = 0
    running: int = 0
    wish: str | None = None


class NewAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account to make. ``verified``: the address is known to be theirs."""

    email: ShortText
    plan: ShortText = "free"
    verified: bool = False


class MadeAccount(msgspec.Struct, frozen=True):
    """An account that was made, with its first key: nobody shows that again."""

    account: AccountFields
    key: NewKey


class ReasonGiven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, for the trail."""

    reason: Annotated[str, Meta(max_length=500)] = ""


class PlanWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The plan to put the account on."""

    plan: ShortText
    reason: Annotated[str, Meta(max_length=500)] = ""


class SignedOut(msgspec.Struct, frozen=True):
    """How many sessions ended."""

    sessions: int


class NewKeyWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to make. What is left out is as the plan has it; ``name`` left out takes the next free one."""

    name: ShortText | None = None
    models: tuple[ShortText, ...] | None = None
    addresses: tuple[ShortText, ...] | None = None
    expires_at: Millis | None = None
    daily_requests: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None
    concurrent_requests: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class KeyLimitsWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a key's own within its plan's; null takes them away."""

    daily_requests: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None
    concurrent_requests: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class Roll(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how many seconds the old key still works."""

    grace: Annotated[int, Meta(ge=0, le=31_536_000)] = 0


class StaffShown(msgspec.Struct, frozen=True):
    """Who works here, and the groups of the sign-in provider that give a role."""

    staff: list[StaffMember]
    groups: dict[str, str]


class RoleWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The role to give; null takes it away."""

    role: ShortText | None


class GroupWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The group, and the role that its members hold from their next sign-in on; null: none."""

    group: ShortText
    role: ShortText | None


def account_fields(user: User) -> AccountFields:
    """An account as the API tells it."""
    return AccountFields(
        user.id,
        user.email,
        user.plan_id,
        user.role,
        user.created_at,
        user.verified_at,
        user.disabled_at,
        user.leaving_at,
    )


class PeopleRoutes:
    """What is done with accounts, keys, staff and tokens."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site
        rules = context.site.sign_in.rules
        self._post = Post(context.site.secrets_file, rules.brand, rules.url)
        self._keep_key = context.operation.settings.keys_reveal

    def operations(self) -> Mapping[str, BoundOperation]:
        """Every operation by its name in the table."""
        return {
            "user_list": Bound(self.users, Listed[AccountFields], PeopleQuery, Nothing),
            "user_show": Bound(self.user, AccountShown, Nothing, Nothing),
            "user_create": Bound(self.create, MadeAccount, Nothing, NewAccount),
            "user_plan": Bound(self.plan, AccountFields, Nothing, PlanWanted),
            "user_verify": Bound(self.verify, AccountFields, Nothing, ReasonGiven),
            "user_disable": Bound(self.disable, AccountFields, Nothing, ReasonGiven),
            "user_enable": Bound(self.enable, AccountFields, Nothing, ReasonGiven),
            "user_delete": Bound(self.delete, AccountFields, Nothing, ReasonGiven),
            "user_keep": Bound(self.keep, AccountFields, Nothing, ReasonGiven),
            "user_sign_out": Bound(self.sign_out, SignedOut, Nothing, Nothing),
            "key_list": Bound(self.keys, Listed[KeyRow], Nothing, Nothing),
            "key_create": Bound(self.make_key, NewKey, Nothing, NewKeyWish),
            "key_limit": Bound(self.limit_key, KeyRow, Nothing, KeyLimitsWanted),
            "key_roll": Bound(self.roll_key, NewKey, Nothing, Roll),
            "key_revoke": Bound(self.revoke_key, KeyRow, Nothing, ReasonGiven),
            "staff_list": Bound(self.staff, StaffShown, Nothing, Nothing),
            "staff_set": Bound(self.set_role, AccountFields, Nothing, RoleWanted),
            "group_set": Bound(self.set_group, StaffShown, Nothing, GroupWanted),
            "token_list": Bound(self.tokens, Listed[AdminToken], Nothing, Nothing),
            "token_revoke": Bound(self.revoke_token, AdminToken, Nothing, ReasonGiven),
            "token_self": Bound(self.own_token, AdminToken, Nothing, Nothing),
        }

    # ---- accounts

    async def users(
        self, call: AdminCall[PeopleQuery, Nothing], conn: AsyncConnection
    ) -> Listed[AccountFields]:
        """Accounts, by their addresses."""
        query = call.query
        if query.state not in search.STATES:
            raise InvalidRequest(f"A state is one of {', '.join(search.STATES[1:])}.", param="state")
        chosen = PeopleFilter(query.q.strip(), query.plan, query.state, query.after)
        rows, cursor = await search.list_people(
            conn, chosen, today=day_of(self._site.clock()), most=query.limit
        )
        shown = [
            AccountFields(
                it.id,
                it.email,
                it.plan_id,
                it.role or "",
                it.created_at,
                it.verified_at,
                it.disabled_at,
                it.leaving_at,
            )
            for it in rows
        ]
        return Listed(shown, cursor or None)

    async def user(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> AccountShown:
        """One account."""
        user = await _user(conn, call.path)
        return AccountShown(
            **msgspec.structs.asdict(account_fields(user)),
            used_today=await history.used_on(conn, user.id, day_of(self._site.clock())),
            running=len(self._site.gate.running(user.id)),
            wish=await plan_wishes.wish_of(conn, user.id),
        )

    async def create(self, call: AdminCall[Nothing, NewAccount], conn: AsyncConnection) -> MadeAccount:
        """Make an account with its first key."""
        user, key = await people.make_account(
            conn,
            self._site.secrets_file,
            call.body.email,
            call.actor,
            plan=call.body.plan,
            verified=call.body.verified,
            keep_key=self._keep_key,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return MadeAccount(account_fields(user), key)

    async def plan(self, call: AdminCall[Nothing, PlanWanted], conn: AsyncConnection) -> AccountFields:
        """Put the account on another plan."""
        changed = await people.change_and_tell(
            conn,
            await _user(conn, call.path),
            Changes(plan_id=call.body.plan),
            call.actor,
            self._post,
            reason=call.body.reason,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return account_fields(changed)

    async def verify(self, call: AdminCall[Nothing, ReasonGiven], conn: AsyncConnection) -> AccountFields:
        """Take the address as verified."""
        return await self._change(call, conn, Changes(verified=True))

    async def disable(self, call: AdminCall[Nothing, ReasonGiven], conn: AsyncConnection) -> AccountFields:
        """Close the account."""
        return await self._change(call, conn, Changes(disabled=True))

    async def enable(self, call: AdminCall[Nothing, ReasonGiven], conn: AsyncConnection) -> AccountFields:
        """Open the account again."""
        return await self._change(call, conn, Changes(disabled=False))

    async def _change(
        self, call: AdminCall[Nothing, ReasonGiven], conn: AsyncConnection, wanted: Changes
    ) -> AccountFields:
        user = await _user(conn, call.path)
        changed = await people.change_and_tell(
            conn,
            user,
            wanted,
            call.actor,
            self._post,
            reason=call.body.reason,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return account_fields(changed)

    async def delete(self, call: AdminCall[Nothing, ReasonGiven], conn: AsyncConnection) -> AccountFields:
        """Have the account deleted in a week."""
        user = await _user(conn, call.path)
        at = await people.delete_and_tell(
            conn,
            user,
            call.actor,
            self._post,
            reason=call.body.reason,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return account_fields(msgspec.structs.replace(user, leaving_at=at))

    async def keep(self, call: AdminCall[Nothing, ReasonGiven], conn: AsyncConnection) -> AccountFields:
        """Keep the account after all."""
        user = await _user(conn, call.path)
        await people.keep(
            conn,
            user,
            call.actor,
            reason=call.body.reason,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return account_fields(msgspec.structs.replace(user, leaving_at=None))

    async def sign_out(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> SignedOut:
        """End all sessions of the account."""
        user = await _user(conn, call.path)
        ended = await people.end_sessions(
            conn, user, call.actor, now=self._site.now(), entropy=self._site.entropy
        )
        return SignedOut(ended)

    # ---- keys

    async def keys(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Listed[KeyRow]:
        """The keys of the account, the newest first."""
        user = await _user(conn, call.path)
        return Listed(list(await management.list_keys(conn, user.id)))

    async def make_key(self, call: AdminCall[Nothing, NewKeyWish], conn: AsyncConnection) -> NewKey:
        """Make a key for the account."""
        wish = KeyWish(**msgspec.structs.asdict(call.body))
        return await people.make_key(
            conn,
            self._site.secrets_file,
            await _user(conn, call.path),
            wish,
            call.actor,
            keep_key=self._keep_key,
            now=self._site.now(),
            entropy=self._site.entropy,
        )

    async def limit_key(self, call: AdminCall[Nothing, KeyLimitsWanted], conn: AsyncConnection) -> KeyRow:
        """Give the key limits of its own."""
        old = await _key(conn, call.path)
        wish = KeyWish(
            old.name,
            old.models,
            old.addresses,
            old.expires_at,
            call.body.daily_requests,
            call.body.concurrent_requests,
        )
        return await people.change_key(
            conn, old, wish, call.actor, now=self._site.now(), entropy=self._site.entropy
        )

    async def roll_key(self, call: AdminCall[Nothing, Roll], conn: AsyncConnection) -> NewKey:
        """Replace the key by a new one."""
        return await people.roll_key(
            conn,
            self._site.secrets_file,
            await _key(conn, call.path),
            call.actor,
            grace=call.body.grace,
            keep_key=self._keep_key,
            now=self._site.now(),
            entropy=self._site.entropy,
        )

    async def revoke_key(self, call: AdminCall[Nothing, ReasonGiven], conn: AsyncConnection) -> KeyRow:
        """End the key."""
        key = await _key(conn, call.path)
        await people.revoke_key(
            conn,
            key,
            call.actor,
            reason=call.body.reason,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return await management.get_key(conn, key.user_id, key.id)

    # ---- staff and tokens

    async def staff(self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> StaffShown:
        """Who works here."""
        return StaffShown(await membership.members(conn), dict(await membership.groups(conn)))

    async def set_role(self, call: AdminCall[Nothing, RoleWanted], conn: AsyncConnection) -> AccountFields:
        """Give somebody a role, or take it away."""
        user, role = await _user(conn, call.path), call.body.role
        now, entropy = self._site.now(), self._site.entropy
        if role is None:
            return account_fields(await membership.take(conn, user, call.actor, now=now, entropy=entropy))
        return account_fields(await membership.give(conn, user, role, call.actor, now=now, entropy=entropy))

    async def set_group(self, call: AdminCall[Nothing, GroupWanted], conn: AsyncConnection) -> StaffShown:
        """Have a group's members hold a role, or no longer."""
        await membership.map_group(
            conn,
            call.body.group,
            call.body.role,
            call.actor,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return StaffShown(await membership.members(conn), dict(await membership.groups(conn)))

    async def tokens(self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Listed[AdminToken]:
        """All tokens, the newest first."""
        return Listed(await tokens.list_tokens(conn))

    async def revoke_token(self, call: AdminCall[Nothing, ReasonGiven], conn: AsyncConnection) -> AdminToken:
        """End a token."""
        token = await tokens.token_named(conn, call.path["id"], now=self._site.now())
        await tokens.revoke_token(
            conn,
            token,
            call.actor,
            reason=call.body.reason,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return msgspec.structs.replace(token, revoked_at=self._site.now())

    async def own_token(self, call: AdminCall[Nothing, Nothing], _conn: AsyncConnection) -> AdminToken:
        """The token that asks."""
        return call.token


async def _user(conn: AsyncConnection, path: Mapping[str, str]) -> User:
    user = await accounts.user_by_id(conn, path["id"])
    if user is None:
        raise NotThere("There is no such account.")
    return user


async def _key(conn: AsyncConnection, path: Mapping[str, str]) -> KeyRow:
    key = await people.find_key(conn, path["id"])
    if key is None:
        raise NotThere("There is no such key.")
    return key
