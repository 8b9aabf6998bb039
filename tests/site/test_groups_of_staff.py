"""Case 5: a role follows the groups that a sign-in provider names, and one that was given by hand does not."""

import secrets
from typing import Any

import pytest
from sqlalchemy import select

from penstock.domain.staff import membership
from penstock.domain.staff.membership import BadRole
from penstock.domain.trail.entries import SYSTEM
from penstock.store.sql.schema import staff, trail
from tests.site.page_reader import Hotel
from tests.site.staff import appoint
from tests.site.test_oauth import ANN, Issuer, come, federated, issuer

__all__ = ["federated", "issuer"]

GROUPS = {"gateway-admins": "admin", "helpdesk": "support"}


@pytest.fixture
async def mapped(federated: Hotel) -> Hotel:
    async with federated.house.store.database.transaction() as conn:
        for name, role in GROUPS.items():
            await membership.map_group(conn, name, role, SYSTEM, now=1, entropy=secrets.token_bytes)
    return federated


def claims(*groups: str) -> dict[str, Any]:
    return {"sub": "1", "email": ANN, "email_verified": True, "groups": list(groups)}


async def role_of(hotel: Hotel) -> tuple[str, str] | None:
    async with hotel.house.store.database.connect() as conn:
        row = (await conn.execute(select(staff.c.role, staff.c.source))).one_or_none()
    return None if row is None else (row.role, row.source)


async def test_case_5_a_role_comes_and_goes_with_its_group(mapped: Hotel, issuer: Issuer) -> None:
    issuer.claims = claims("others", "helpdesk", "gateway-admins")
    first = mapped.reader()
    await come(first, issuer)
    assert await role_of(mapped) == ("admin", "sso"), "the highest of several"
    assert (await first.get("/admin")).status_code == 200
    issuer.claims = claims("helpdesk")
    second = mapped.reader()
    await come(second, issuer)
    assert await role_of(mapped) == ("support", "sso")
    assert not await first.is_in(), "who has a lower role is signed out elsewhere"
    issuer.claims = claims()
    third = mapped.reader()
    await come(third, issuer)
    assert await role_of(mapped) is None
    assert not await second.is_in()
    assert (await third.get("/admin")).status_code == 404
    async with mapped.house.store.database.connect() as conn:
        kinds = list(await conn.scalars(select(trail.c.action).where(trail.c.actor_kind == "sso")))
    assert sorted(kinds) == ["role_given", "role_given", "role_taken"]


async def test_a_claim_that_is_absent_changes_nothing(mapped: Hotel, issuer: Issuer) -> None:
    issuer.claims = claims("helpdesk")
    await come(mapped.reader(), issuer)
    issuer.claims = {"sub": "1", "email": ANN, "email_verified": True}
    await come(mapped.reader(), issuer)
    assert await role_of(mapped) == ("support", "sso")
    issuer.claims = {**issuer.claims, "groups": {"odd": 1}}
    await come(mapped.reader(), issuer)
    assert await role_of(mapped) == ("support", "sso")


@pytest.mark.parametrize("role", ["owner", "viewer"])
async def test_case_5_a_role_of_somebodys_hand_stays(mapped: Hotel, issuer: Issuer, role: str) -> None:
    issuer.claims = {"sub": "1", "email": ANN, "email_verified": True}
    await come(mapped.reader(), issuer)
    await appoint(mapped, ANN, role)
    for groups in (("gateway-admins",), ()):
        issuer.claims = claims(*groups)
        await come(mapped.reader(), issuer)
        assert await role_of(mapped) == (role, "hand")


async def test_no_group_makes_an_owner(mapped: Hotel) -> None:
    async with mapped.house.store.database.transaction() as conn:
        for role in ("owner", "boss"):
            with pytest.raises(BadRole):
                await membership.map_group(conn, "x", role, SYSTEM, now=1, entropy=secrets.token_bytes)
        await membership.map_group(conn, "helpdesk", None, SYSTEM, now=1, entropy=secrets.token_bytes)
        assert await membership.groups(conn) == {"gateway-admins": "admin"}
