"""Sign-up and sign-in: verification, the second factor, a forgotten password, and what an owner may change.

What a stranger is told never depends on whether an address has an account: the same text, the same work, the same limits.
Passwords are hashed outside any transaction, after every limit was spent: who is past one costs no hash. Mails are queued
inside the transaction that wants them.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.amounts import amount
from penstock.domain.accounts import accounts, audit, credentials, one_time_codes, sessions
from penstock.domain.accounts.accounts import BadEmail, Changes, User
from penstock.domain.accounts.attempt_limits import (
    AttemptLimits,
    Spending,
    TooOften,
    forget,
    give_back,
    spend,
    spend_all,
)
from penstock.domain.accounts.one_time_codes import Purpose, Wish, WrongCode
from penstock.domain.accounts.passwords import PasswordHasher, check_choice
from penstock.domain.keys import management
from penstock.domain.keys.management import KeyWish
from penstock.domain.mail import messages, outbox
from penstock.domain.staff import membership, setup_link
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import AccountDisabled, CallerError, Overloaded
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import Database

T = TypeVar("T")
FIRST_KEY = "default"


class SignUpClosed(CallerError):
    """The operator takes no new accounts, or none with this address."""

    status = 403
    code = "sign_up_closed"


class WrongPassword(CallerError):
    """The password is wrong, or there is no such account; the answer is the same."""

    code = "wrong_password"


class Rules(msgspec.Struct, frozen=True):
    """What the operator decides. ``domains``: only addresses there may sign up; empty: all."""

    brand: str
    url: str
    open: bool
    domains: tuple[str, ...]
    first_plan: str
    keep_keys: bool
    guards: AttemptLimits


class Visitor(msgspec.Struct, frozen=True):
    """A browser: the digest of its cookie's token, and where it is."""

    digest: bytes
    address: str
    network: str


class SignedIn(msgspec.Struct, frozen=True):
    """A right password, or somebody vouched for. ``wants`` is what is still missing."""

    user: User
    wants: Literal["nothing", "second_factor", "verification"]
    verified_now: bool = False
    """The address was verified by this, and not before."""


class SignIn:
    """The one place where strangers become users. One per process."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        hasher: PasswordHasher,
        rules: Rules,
        entropy: Entropy,
        mail_queued: Callable[[], None],
    ) -> None:
        """``mail_queued`` is called after a transaction that queued a mail."""
        self._database = database
        self._secrets_file = secrets_file
        self._hasher = hasher
        self._rules = rules
        self._entropy = entropy
        self._mail_queued = mail_queued

    @property
    def rules(self) -> Rules:
        return self._rules

    # ---- sign up

    async def sign_up(self, email: str, password: str, visitor: Visitor, *, now: int) -> None:
        """Make an account that waits for its code; or tell the owner of the one that is there.

        Raises ``SignUpClosed``, ``BadEmail``, ``BadPassword``, ``TooOften``, ``Overloaded``.
        """
        address = accounts.parse_email(email)
        self._check_open(address)
        check_choice(password, address)
        canonical = accounts.canonical_email(address)
        guards = self._rules.guards
        asking = Wish("verify", address, canonical, visitor.digest, visitor.network, None)
        spent = ((guards.sign_ups_by_network, visitor.network), *one_time_codes.sends(asking, guards))
        async with self._database.transaction() as conn:
            await spend_all(conn, spent, now=now)
        hashed = await self._hashed(self._hasher.hash(password, visitor.network), spent, now)
        async with self._database.transaction() as conn:
            user = await accounts.find_user(conn, address)
            if user is None:
                user = await self._new_account(conn, address, hashed, visitor, now)
            known = user.verified_at is not None
            # The page says what was typed: how the owner wrote the address is for the owner to know.
            wish = msgspec.structs.replace(asking, user_id=None if known else user.id, password=hashed)
            code = await one_time_codes.make(conn, self._secrets_file, wish, now=now, entropy=self._entropy)
            mail = (
                messages.existing_account(self._rules.brand, user.email, self._rules.url)
                if known
                else messages.verification(self._rules.brand, user.email, code)
            )
            await self._mail(conn, mail, now)
        self._mail_queued()

    async def _hashed(self, work: Awaitable[T], spent: Sequence[Spending], now: int) -> T:
        """The hasher's work; where it has no room, what was spent for it is given back. Raises ``Overloaded``."""
        try:
            return await work
        except Overloaded:
            async with self._database.transaction() as conn:
                await give_back(conn, spent, now=now)
            raise

    def _check_open(self, address: str) -> None:
        if not self._rules.open:
            raise SignUpClosed("This service takes no new accounts. Ask its operator for one.")
        domain = address.rpartition("@")[2]
        if self._rules.domains and domain not in self._rules.domains:
            allowed = ", ".join(self._rules.domains)
            raise SignUpClosed(f"Sign up with an address at {allowed}.", param="email")

    async def _new_account(
        self, conn: AsyncConnection, address: str, hashed: str | None, visitor: Visitor, now: int
    ) -> User:
        user = await accounts.create_user(
            conn,
            address,
            plan=self._rules.first_plan,
            admin=False,
            verified=False,
            now=now,
            id=accounts.new_user_id(self._entropy(16)),
        )
        # For signing in from elsewhere before the code was entered; whoever enters it sets theirs.
        await credentials.set_password(conn, user.id, hashed, now=now)
        # The key exists from now on, and is refused until the address is verified.
        await management.create_key(
            conn,
            self._secrets_file,
            user.id,
            KeyWish(FIRST_KEY),
            now=now,
            entropy=self._entropy,
            keep=self._rules.keep_keys,
        )
        await self._note(conn, user.id, "signed_up", visitor, now)
        return user

    async def verify(self, digits: str, visitor: Visitor, *, now: int) -> User:
        """The code of a sign-up: the account is verified, with the password of this browser.

        Raises ``WrongCode``, ``TooOften``.
        """
        async with self._database.transaction() as conn:
            used = await one_time_codes.use(
                conn, self._secrets_file, visitor.digest, visitor.network, "verify", digits, now=now
            )
            user = None
            if isinstance(used, one_time_codes.Asked) and used.user_id is not None:
                user = await accounts.change_user(conn, used.user_id, Changes(verified=True), now=now)
                if used.password is not None:
                    await credentials.set_password(conn, user.id, used.password, now=now)
                await sessions.end_all(conn, user.id)
                await self._note(conn, user.id, "verified", visitor, now)
        return _or_raise(used, user)

    async def resend(self, purpose: Purpose, visitor: Visitor, *, now: int) -> None:
        """A new code for what this browser asked one for. Raises ``TooOften``, and ``WrongCode`` where it asked for none."""
        async with self._database.transaction() as conn:
            before = await one_time_codes.asked(conn, visitor.digest, purpose)
            if before is None:
                raise WrongCode("No code was asked for in this browser. Begin again.")
            wish = Wish(
                purpose,
                before.email,
                before.email_canonical,
                visitor.digest,
                visitor.network,
                before.user_id,
                before.password,
            )
            code = await self._code(conn, wish, now)
            if before.user_id is not None:
                recipient = before.email
                if purpose != "new_email":
                    recipient = (await accounts.get_user(conn, before.user_id)).email
                await self._mail(conn, _MAIL_OF[purpose](self._rules.brand, recipient, code), now)
        self._mail_queued()

    # ---- sign in

    async def sign_in(self, email: str, password: str, visitor: Visitor, *, now: int) -> SignedIn:
        """Check a password. Raises ``WrongPassword``, ``AccountDisabled``, ``TooOften``, ``Overloaded``."""
        subject = _canonical(email)
        pair = f"{subject} {visitor.network}"
        guards = self._rules.guards
        spent = ((guards.sign_ins_by_network, visitor.network), (guards.sign_ins_by_pair, pair))
        async with self._database.transaction() as conn:
            await spend_all(conn, spent, now=now)
            user = await accounts.find_user(conn, email) if subject else None
            kept = (
                credentials.Credentials() if user is None else await credentials.credentials_of(conn, user.id)
            )
        checked = await self._hashed(self._hasher.check(password, kept.password, visitor.network), spent, now)
        async with self._database.transaction() as conn:
            if user is not None and checked.good:
                await forget(conn, self._rules.guards.sign_ins_by_pair, pair)
                if checked.renewed is not None and kept.password is not None:
                    await credentials.renew_hash(conn, user.id, kept.password, checked.renewed)
            elif user is not None:
                await self._note(conn, user.id, "sign_in_failed", visitor, now)
                if user.role:
                    actor = Actor("user", user.id, user.email, visitor.address)
                    subject = Subject("staff", user.id, user.email)
                    await entries.write(
                        conn,
                        actor,
                        "staff_signed_in",
                        subject,
                        reason="wrong password",
                        result="refused",
                        now=now,
                        entropy=self._entropy,
                    )
        if user is None or not checked.good:
            raise WrongPassword(
                "The e-mail address and the password do not belong together.", param="password"
            )
        if user.disabled_at is not None:
            raise AccountDisabled("This account is disabled. Ask the operator of this service.")
        if user.verified_at is None:
            try:
                await self._verify_again(user, kept, visitor, now)
            except TooOften as error:
                raise TooOften(
                    "This address is not verified yet, and a code was mailed a moment ago: enter it in the browser that asked "
                    f"for it. For another one, sign in here again in {amount(error.retry_after or 0, 'second')}.",
                    retry_after=error.retry_after,
                ) from error
            return SignedIn(user, "verification")
        return SignedIn(user, "second_factor" if kept.second_factor else "nothing")

    async def vouched(
        self, email: str, visitor: Visitor, *, groups: Sequence[str] | None = None, now: int
    ) -> SignedIn:
        """Somebody whose address another service has verified: the account of the mailbox, or a new one.

        ``groups`` are those that it says the person is in, which may give or take a role; None: it says nothing of them.

        A password that was set before the address was verified may be anybody's, and is dropped. Raises ``SignUpClosed``,
        ``AccountDisabled``, ``BadEmail``, ``TooOften``.
        """
        address = accounts.parse_email(email)
        async with self._database.transaction() as conn:
            user = await accounts.find_user(conn, address)
            if user is None:
                self._check_open(address)
                await spend(conn, self._rules.guards.sign_ups_by_network, visitor.network, now=now)
                user = await self._new_account(conn, address, None, visitor, now)
            if user.disabled_at is not None:
                raise AccountDisabled("This account is disabled. Ask the operator of this service.")
            verified_now = user.verified_at is None
            if verified_now:
                user = await accounts.change_user(conn, user.id, Changes(verified=True), now=now)
                await credentials.set_password(conn, user.id, None, now=now)
                await self._note(conn, user.id, "verified", visitor, now)
            if groups is not None:
                user = await membership.follow_groups(
                    conn, user, groups, address=visitor.address, now=now, entropy=self._entropy
                )
            kept = await credentials.credentials_of(conn, user.id)
        return SignedIn(user, "second_factor" if kept.second_factor else "nothing", verified_now)

    # ---- the first owner

    async def set_up(self, token: str, email: str, password: str, visitor: Visitor, *, now: int) -> User:
        """By a set-up link: the account of the first owner, with a password of their own.

        Of many who use the link at once one is first, and only for that one a password is hashed. Raises ``LinkGone``,
        ``BadEmail``, ``BadPassword``, ``BadRole``, ``Overloaded``.
        """
        address = accounts.parse_email(email)
        check_choice(password, address)
        async with self._database.transaction() as conn:
            await setup_link.use(conn, token, now=now)
        try:
            hashed = await self._hasher.hash(password, visitor.network)
            async with self._database.transaction() as conn:
                return await setup_link.make_owner(
                    conn,
                    address,
                    hashed,
                    plan=self._rules.first_plan,
                    network_address=visitor.address,
                    now=now,
                    entropy=self._entropy,
                )
        except (CallerError, Overloaded):
            async with self._database.transaction() as conn:
                await setup_link.give_back(conn, token)
            raise

    async def _verify_again(
        self, user: User, kept: credentials.Credentials, visitor: Visitor, now: int
    ) -> None:
        async with self._database.transaction() as conn:
            wish = Wish(
                "verify",
                user.email,
                accounts.canonical_email(user.email),
                visitor.digest,
                visitor.network,
                user.id,
                kept.password,
            )
            code = await self._code(conn, wish, now)
            await self._mail(conn, messages.verification(self._rules.brand, user.email, code), now)
        self._mail_queued()

    async def second_factor(self, user_id: str, digits: str, visitor: Visitor, *, now: int) -> bool:
        """Whether the second factor is right. Raises ``TooOften``."""
        async with self._database.transaction() as conn:
            for limit in self._rules.guards.second_factors:
                await spend(conn, limit, user_id, now=now)
            good = await credentials.use_second_factor(conn, self._secrets_file, user_id, digits, now=now)
            if good:
                for limit in self._rules.guards.second_factors:
                    await forget(conn, limit, user_id)
                if not digits.strip().isdecimal():
                    await self._note(conn, user_id, "recovery_code_used", visitor, now)
        return good

    # ---- a forgotten password

    async def forgot(self, email: str, visitor: Visitor, *, now: int) -> None:
        """Mail a code for a new password, if there is such an account. Raises ``BadEmail``, ``TooOften``."""
        address = accounts.parse_email(email)
        async with self._database.transaction() as conn:
            user = await accounts.find_user(conn, address)
            wish = Wish(
                "reset",
                address,
                accounts.canonical_email(address),
                visitor.digest,
                visitor.network,
                None if user is None else user.id,
            )
            code = await self._code(conn, wish, now)
            if user is not None:
                await self._mail(conn, messages.reset(self._rules.brand, user.email, code), now)
        self._mail_queued()

    async def reset(self, digits: str, password: str, visitor: Visitor, *, now: int) -> User:
        """Set a new password with the code; every session ends.

        Raises ``WrongCode``, ``BadPassword``, ``TooOften``, ``Overloaded``.
        """
        async with self._database.connect() as conn:
            before = await one_time_codes.asked(conn, visitor.digest, "reset")
        check_choice(password, "" if before is None else before.email)
        async with self._database.transaction() as conn:
            used = await one_time_codes.try_code(
                conn, self._secrets_file, visitor.digest, visitor.network, "reset", digits, now=now
            )
        if not isinstance(used, one_time_codes.Asked):
            raise used
        hashed = await self._hasher.hash(password, visitor.network)
        user = None
        async with self._database.transaction() as conn:
            if await one_time_codes.take(conn, used) and used.user_id is not None:
                # Who reads the mailbox has verified the address by that.
                user = await accounts.change_user(conn, used.user_id, Changes(verified=True), now=now)
                await self._set_password(conn, user, hashed, now)
                await self._note(conn, user.id, "password_reset", visitor, now)
        self._mail_queued()
        return _or_raise(used, user)

    # ---- what an owner may change

    async def check_password(self, user: User, password: str, visitor: Visitor, *, now: int) -> None:
        """Whether it is the owner who asks, before what must not happen by a borrowed session.

        Raises ``WrongPassword``, ``TooOften``, ``Overloaded``.
        """
        pair = f"{user.id} {visitor.network}"
        guards = self._rules.guards
        spent = ((guards.password_checks, user.id), (guards.sign_ins_by_pair, pair))
        async with self._database.transaction() as conn:
            await spend_all(conn, spent, now=now)
            kept = await credentials.credentials_of(conn, user.id)
        check = self._hasher.check(password, kept.password, visitor.network)
        if not (await self._hashed(check, spent, now)).good:
            raise WrongPassword("This is not your password.", param="password")
        async with self._database.transaction() as conn:
            await forget(conn, self._rules.guards.sign_ins_by_pair, pair)

    async def change_password(
        self, user: User, password: str, session: bytes, visitor: Visitor, *, now: int
    ) -> None:
        """Set a new password, after ``check_password``; every other session ends. Raises ``BadPassword``, ``Overloaded``."""
        check_choice(password, user.email)
        hashed = await self._hasher.hash(password, visitor.network)
        async with self._database.transaction() as conn:
            await self._set_password(conn, user, hashed, now, but=session)
            await self._note(conn, user.id, "password_changed", visitor, now)
        self._mail_queued()

    async def ask_new_email(self, user: User, email: str, visitor: Visitor, *, now: int) -> None:
        """Mail a code to a new address, after ``check_password``. Raises ``BadEmail``, ``TooOften``."""
        address = accounts.parse_email(email)
        async with self._database.transaction() as conn:
            other = await accounts.find_user(conn, address)
            free = other is None or other.id == user.id
            canonical = accounts.canonical_email(address)
            wish = Wish(
                "new_email", address, canonical, visitor.digest, visitor.network, user.id if free else None
            )
            code = await self._code(conn, wish, now)
            if free:
                await self._mail(conn, messages.new_address(self._rules.brand, address, code), now)
        self._mail_queued()

    async def confirm_new_email(self, user: User, digits: str, visitor: Visitor, *, now: int) -> User:
        """The code from the new address. Raises ``WrongCode``, ``TooOften``, ``EmailTaken``."""
        changed = None
        async with self._database.transaction() as conn:
            used = await one_time_codes.use(
                conn, self._secrets_file, visitor.digest, visitor.network, "new_email", digits, now=now
            )
            if isinstance(used, one_time_codes.Asked) and used.user_id == user.id:
                changed = await accounts.change_email(conn, user.id, used.email)
                mail = messages.address_changed(self._rules.brand, user.email, used.email)
                await self._mail(conn, mail, now)
                await self._note(conn, user.id, "email_changed", visitor, now)
        self._mail_queued()
        return _or_raise(used, changed)

    async def _set_password(
        self, conn: AsyncConnection, user: User, hashed: str, now: int, *, but: bytes = b""
    ) -> None:
        await credentials.set_password(conn, user.id, hashed, now=now)
        await sessions.end_all(conn, user.id, but=but)
        await self._mail(conn, messages.password_changed(self._rules.brand, user.email, self._rules.url), now)

    async def _code(self, conn: AsyncConnection, wish: Wish, now: int) -> str:
        guards = self._rules.guards
        return await one_time_codes.issue(
            conn, self._secrets_file, wish, guards, now=now, entropy=self._entropy
        )

    async def _mail(self, conn: AsyncConnection, mail: outbox.Mail, now: int) -> None:
        await outbox.queue(conn, self._secrets_file, mail, now=now, entropy=self._entropy)

    async def _note(
        self, conn: AsyncConnection, user_id: str, action: audit.Action, visitor: Visitor, now: int
    ) -> None:
        await audit.note(conn, user_id, action, "", visitor.address, now=now, entropy=self._entropy)


_MAIL_OF = {"verify": messages.verification, "reset": messages.reset, "new_email": messages.new_address}


def _or_raise(used: one_time_codes.Asked | WrongCode | TooOften, user: User | None) -> User:
    """The user that a code was used for; raised here, after the transaction has kept the try."""
    if isinstance(used, WrongCode | TooOften):
        raise used
    if user is None:
        raise WrongCode("This code is for something else.")
    return user


def _canonical(email: str) -> str:
    """The mailbox, or '' where ``email`` is no address: then there is no account either."""
    try:
        return accounts.mailbox_of(email)
    except BadEmail:
        return ""
