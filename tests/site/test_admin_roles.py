"""Every route of the admin pages against every role (case 3): made from the router, so that none is forgotten."""

import httpx2
from sqlalchemy import func, select

from penstock.domain.staff.roles import PERMISSIONS, ROLES, Permission
from penstock.store.sql.schema import trail
from tests.site.page_reader import Hotel
from tests.site.staff import id_of, member
from tests.site.test_roles import routes

# Every route of the staff, and what its visitor must be allowed to do.
NEEDS: dict[str, Permission] = {
    "/admin": "read",
    "/admin/search": "read",
    "/admin/users": "read",
    "/admin/users/{id}": "read",
    "/admin/users/{id}/plan": "plan",
    "/admin/users/{id}/verify": "verify",
    "/admin/users/{id}/disable": "people",
    "/admin/users/{id}/enable": "people",
    "/admin/users/{id}/delete": "people",
    "/admin/users/{id}/keep": "people",
    "/admin/users/{id}/sessions": "verify",
    "/admin/users/new": "people",
    "/admin/users/{id}/keys/new": "people",
    "/admin/users/{id}/keys/{key}": "people",
    "/admin/users/{id}/keys/{key}/roll": "people",
    "/admin/users/{id}/keys/{key}/revoke": "people",
    "/admin/users/{id}/view": "view_as",
    "/admin/view/stop": "read",
    "/admin/requests": "read",
    "/admin/requests/{id}": "read",
    "/admin/providers": "read",
    "/admin/providers/{id}": "read",
    "/admin/providers/new": "catalog",
    "/admin/providers/{id}/models": "catalog",
    "/admin/providers/{id}/publish": "catalog",
    "/admin/providers/{id}/switch": "catalog",
    "/admin/providers/{id}/reset": "catalog",
    "/admin/providers/{id}/test": "catalog",
    "/admin/providers/{id}/remove": "catalog",
    "/admin/providers/{id}/proxy": "catalog",
    "/admin/providers/{id}/keys/new": "catalog",
    "/admin/providers/{id}/keys/{key}": "read",
    "/admin/providers/{id}/keys/{key}/change": "catalog",
    "/admin/providers/{id}/keys/{key}/rotate": "catalog",
    "/admin/providers/{id}/keys/{key}/remove": "catalog",
    "/admin/models": "read",
    "/admin/models/remove": "catalog",
    "/admin/models/{id:path}": "read",
    "/admin/plans": "read",
    "/admin/plans/new": "catalog",
    "/admin/plans/{id}": "read",
    "/admin/plans/{id}/change": "catalog",
    "/admin/catalog/edit": "catalog",
    "/admin/catalog/preview": "catalog",
    "/admin/catalog/apply": "catalog",
    "/admin/staff": "read",
    "/admin/staff/set": "staff",
    "/admin/staff/group": "staff",
    "/admin/tokens": "read",
    "/admin/tokens/make": "staff",
    "/admin/tokens/{id}/revoke": "staff",
    "/admin/audit": "read",
    "/admin/audit/verify": "read",
    "/admin/audit.jsonl": "export",
    "/admin/changes": "read",
    "/admin/changes/{operation}": "read",
    "/admin/changes/{operation}/undo": "people",
    "/admin/live": "read",
    "/admin/live/end": "verify",
    "/admin/mail": "read",
    "/admin/mail/again": "mail",
    "/admin/mail/test": "mail",
    "/admin/notices": "read",
    "/admin/notices/incidents": "announce",
    "/admin/notices/incidents/{id}": "announce",
    "/admin/notices/announcements": "announce",
    "/admin/notices/announcements/{id}/withdraw": "announce",
    "/admin/captures": "read",
    "/admin/captures/begin": "captures",
    "/admin/captures/{id}": "captures",
    "/admin/captures/{id}/end": "captures",
    "/admin/captures/{id}/read": "captures",
    "/admin/notifications": "read",
    "/admin/notifications/webhooks": "mail",
    "/admin/notifications/webhooks/{id}/test": "mail",
    "/admin/notifications/webhooks/{id}/remove": "mail",
    "/admin/notifications/rules": "mail",
    "/admin/notifications/rules/{id}/remove": "mail",
    "/admin/notifications/deliveries/{id}/again": "mail",
    "/admin/exports": "read",
    "/admin/exports/add": "export",
    "/admin/exports/{id}/remove": "export",
    "/admin/exports/{id}/backfill": "export",
    "/admin/exports/{id}/backfill/stop": "export",
    "/admin/settings": "read",
    "/admin/jobs": "read",
}
FOUND = {
    "/admin": 200, "/admin/users": 200, "/admin/users/{id}": 200, "/admin/users/{id}/verify": 200,
    "/admin/users/new": 200, "/admin/plans/new": 200, "/admin/users/{id}/keys/new": 200,
    "/admin/users/{id}/disable": 200, "/admin/users/{id}/enable": 200, "/admin/users/{id}/sessions": 200,
    "/admin/requests": 200, "/admin/providers": 200, "/admin/providers/{id}": 200, "/admin/models": 200,
    "/admin/providers/new": 200, "/admin/providers/{id}/keys/new": 200, "/admin/providers/{id}/keys/{key}": 200,
    "/admin/providers/{id}/keys/{key}/rotate": 200, "/admin/providers/{id}/remove": 200,
    "/admin/models/{id:path}": 200, "/admin/plans": 200, "/admin/plans/{id}": 200, "/admin/staff": 200,
    "/admin/tokens": 200,
    "/admin/audit": 200, "/admin/audit.jsonl": 200, "/admin/changes": 200, "/admin/live": 200, "/admin/mail": 200,
    "/admin/settings": 200, "/admin/notices": 200, "/admin/jobs": 200, "/admin/notifications": 200, "/admin/exports": 200,
    "/admin/captures": 200,
}  # fmt: skip
"""What a GET by somebody who may gives, of those that need no more than their address."""


def test_every_permission_is_somebodys_and_the_owner_has_all() -> None:
    every = {name for names in PERMISSIONS.values() for name in names}
    assert set(PERMISSIONS["owner"]) == every
    assert set(NEEDS.values()) == every
    assert set(PERMISSIONS) == set(ROLES)


async def test_the_table_has_every_route_of_the_staff_and_no_other(hotel: Hotel) -> None:
    assert {path for path in routes(hotel, staff=True) if path.startswith("/admin")} == set(NEEDS)


async def _refusals(hotel: Hotel) -> int:
    async with hotel.house.store.database.connect() as conn:
        return (
            await conn.scalar(select(func.count()).select_from(trail).where(trail.c.action == "page_refused"))
            or 0
        )


async def test_case_3_every_role_gets_exactly_what_the_table_says(hotel: Hotel) -> None:
    await hotel.reader("198.51.100.200").join("target@example.com")
    fill = {
        "{id:path}": "claude-haiku-4.5",
        "{key}": "key_x",
        "{operation}": "opn_x",
        "{id}": await id_of(hotel, "target@example.com"),
    }

    def address(path: str) -> str:
        if path.startswith("/admin/providers/"):
            return path.replace("{id}", "absent").replace("{key}", "outside")
        if path.startswith("/admin/plans/"):
            return path.replace("{id}", "free")
        for name, value in fill.items():
            path = path.replace(name, value)
        return path

    found = routes(hotel, staff=True)
    for role in ("", *ROLES):
        reader = await member(hotel, role)
        for path, permission in NEEDS.items():
            may = bool(role) and permission in PERMISSIONS[role]  # type: ignore[index]
            for method in sorted({"GET", "POST"} & found[path]):
                if path.endswith(("/enable", "/disable", "/view", "/undo")) and method == "POST" and may:
                    continue  # done by the tests of what they do
                before = await _refusals(hotel)
                if method == "GET":
                    answer = await reader.get(address(path))
                else:
                    answer = await reader.post(address(path))
                check(role, path, method, answer, may=may)
                refused = await _refusals(hotel) - before
                assert refused == (1 if role and not may else 0), (role, path, method)


def check(role: str, path: str, method: str, answer: httpx2.Response, *, may: bool) -> None:
    told = (role, path, method, answer.status_code)
    assert answer.status_code < 500, told
    assert "no-store" in answer.headers["cache-control"], told
    if not role:
        assert answer.status_code == 404, told
    elif not may:
        assert answer.status_code == 403, told
    else:
        assert answer.status_code not in {401, 403}, told
        if method == "GET" and path in FOUND:
            assert answer.status_code == FOUND[path], told


async def test_strangers_are_sent_to_sign_in(hotel: Hotel) -> None:
    stranger = hotel.reader()
    for path, methods in routes(hotel, staff=True).items():
        if not path.startswith("/admin"):
            continue
        if "GET" in methods:
            answer = await stranger.get(path)
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/signin?next="), path
        if "POST" in methods:
            assert (await stranger.post(path)).status_code == 401, path


async def test_no_form_of_the_staff_is_taken_without_its_token(hotel: Hotel) -> None:
    owner = await member(hotel, "owner")
    id = await id_of(hotel, "owner@example.com")
    for path, methods in routes(hotel, staff=True).items():
        if not path.startswith("/admin") or "POST" not in methods or "{key}" in path:
            continue
        known = "free" if "/plans/" in path else "wire-chat" if "/providers/" in path else id
        address = path.replace("{id}", known).replace("{operation}", "opn_x")
        assert (await owner.http.post(address, data={"role": "none"})).status_code == 403, path
        foreign = await owner.post(address, {"origin": "https://evil.example"})
        assert foreign.status_code == 403, path
