"""Seals: reasoning that a provider has encrypted, which no other account can read; so a conversation goes back to where it was.

Whoever has answered a request with such items can read them, and is remembered by the last of them. A later request of the
conversation has that item among its last ones. It is asked there first, as long as somebody there is to be had; elsewhere
the reasoning is refused, and left out.
"""

from penstock.core.body.request_scan import ENCRYPTED
from penstock.core.memo import Memo
from penstock.core.routing.candidates import Attempt, Candidate, Group, Tier

ProviderAccount = tuple[str, str]
"""A provider, and the account at it."""
_MEMBER = b'"%b"' % ENCRYPTED
_LOOKED_AT = 16
"""Of a request's items, from the end."""
_PART = 192
"""Bytes of an item that tell it from others; its beginning is the same for many."""
_SKIPPED = 64
_MOST = 16_384


class Seals:
    """Which account can read what; of one process."""

    __slots__ = ("_readers",)

    def __init__(self) -> None:
        self._readers: Memo[int, ProviderAccount] = Memo(_MOST)

    def reader(self, seals: tuple[int, ...]) -> ProviderAccount | None:
        """Who has read the newest of these that is known."""
        for seal in seals:
            found = self._readers.get(seal)
            if found is not None:
                return found
        return None

    def learn(self, seals: tuple[int, ...], attempt: Attempt) -> None:
        """The account of this attempt has taken them."""
        self._readers.keep(seals[0], provider_account(attempt))


def provider_account(attempt: Attempt) -> ProviderAccount:
    """The provider that an attempt asks, and the account there."""
    return attempt.provider, attempt.account


def seals_of(body: bytes) -> tuple[int, ...]:
    """What is encrypted in a request's body, the newest first."""
    found: list[int] = []
    at = body.rfind(_MEMBER)
    while at >= 0 and len(found) < _LOOKED_AT:
        start = at + len(_MEMBER)
        value = body[start : start + _SKIPPED + _PART].lstrip(b' :"')
        if not value.startswith(b"null"):
            found.append(hash(value.partition(b'"')[0]))
        at = body.rfind(_MEMBER, 0, at)
    return tuple(found)


def readers_first(group: Group, reader: ProviderAccount) -> Group:
    """The same candidates, those of one account before all others."""
    tiers: list[tuple[Candidate, ...]] = []
    for own in (True, False):
        for tier in group.tiers:
            of_it = tuple(
                each for each in tier.candidates if (provider_account(each.attempt) == reader) is own
            )
            if of_it:
                tiers.append(of_it)
    return Group(group.model, tuple(Tier(at, candidates) for at, candidates in enumerate(tiers)))
