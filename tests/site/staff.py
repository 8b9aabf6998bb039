"""People of the staff for tests of the admin pages: each signed in, in a role."""

import secrets

from penstock.domain.accounts import accounts
from penstock.domain.staff import membership
from penstock.domain.trail.entries import SYSTEM
from tests.site.page_reader import Hotel, Reader


async def member(hotel: Hotel, role: str, address: str = "") -> Reader:
    """Somebody with this role, signed in; '' is somebody of no role."""
    email = address or f"{role or 'nobody'}@example.com"
    reader = await hotel.reader(f"198.51.100.{len(hotel.readers) + 1}").join(email)
    if role:
        await appoint(hotel, email, role)
    return reader


async def appoint(hotel: Hotel, email: str, role: str) -> None:
    """Give somebody a role, as an owner would."""
    async with hotel.house.store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, email)
        await membership.give(conn, user, role, SYSTEM, now=1, entropy=secrets.token_bytes)


async def id_of(hotel: Hotel, email: str) -> str:
    """The id of somebody's account."""
    async with hotel.house.store.database.connect() as conn:
        return (await accounts.user_by_email(conn, email)).id
