"""Roles of staff, and what each may do: one table, which the command line, the pages and every form ask."""

from collections.abc import Sequence
from typing import Final, Literal, TypeGuard

from penstock.errors import CallerError

StaffRole = Literal["owner", "admin", "support", "billing", "viewer"]
ROLES: Final[tuple[StaffRole, ...]] = ("owner", "admin", "support", "billing", "viewer")
"""The highest first: of several groups that a person is in, the highest role counts."""

Permission = Literal[
    "read",  # all pages but secrets and content
    "verify",  # verify an address, end sessions and running requests
    "view_as",  # see the pages of an account as its owner does
    "plan",  # put an account on another plan
    "people",  # disable and delete accounts, revoke keys
    "catalog",  # providers, models and plans, and undoing their changes
    "mail",  # send mails again, test the mail server
    "announce",  # tell everybody of trouble, and of what is new
    "export",  # take the trail away as a file
    "staff",  # give and take roles
    "captures",  # have content kept, and read it
]

PERMISSIONS: Final[dict[StaffRole, frozenset[Permission]]] = {
    "owner": frozenset(
        {
            "read",
            "verify",
            "view_as",
            "plan",
            "people",
            "catalog",
            "mail",
            "announce",
            "export",
            "staff",
            "captures",
        }
    ),
    "admin": frozenset(
        {"read", "verify", "view_as", "plan", "people", "catalog", "mail", "announce", "export"}
    ),
    "support": frozenset({"read", "verify", "view_as"}),
    "billing": frozenset({"read", "plan"}),
    "viewer": frozenset({"read"}),
}

MEANING: Final[dict[StaffRole, str]] = {
    "owner": "everything, roles and captures included",
    "admin": "accounts, keys, providers, models and plans",
    "support": "reads; verifies addresses, ends sessions and requests, sees an account as its owner does",
    "billing": "reads; puts accounts on plans",
    "viewer": "reads all but secrets and content",
}


class NotYourRole(CallerError):
    """The role of this member of staff does not allow it."""

    status = 403
    code = "role_not_allowed"


def is_role(text: str) -> TypeGuard[StaffRole]:
    """Whether there is such a role."""
    return text in PERMISSIONS


def may(role: str, permission: Permission) -> bool:
    """Whether a role allows it; nobody's ('') allows nothing."""
    return is_role(role) and permission in PERMISSIONS[role]


def require(role: str, permission: Permission) -> None:
    """Raise ``NotYourRole`` where the role does not allow it."""
    if not may(role, permission):
        needed = [name for name in ROLES if permission in PERMISSIONS[name]]
        raise NotYourRole(f"Your role ({role or 'none'}) does not allow this: {_either(needed)} does.")


def highest(roles: list[StaffRole]) -> StaffRole | None:
    """The one that counts of several."""
    return next((role for role in ROLES if role in roles), None)


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)
