"""Switches: what an operator has said of upstreams, which no rule of choice passes over.

A switch is of a provider, of one of its credentials, of one of its models, or of one model with one credential. What is
drained or off gets no new requests, and what runs there ends as it would have.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from penstock.core.routing.candidates import UpstreamKey

SwitchState = Literal["on", "drain", "off"]


class Reach(msgspec.Struct, frozen=True):
    """Which upstreams are meant: all of a provider, or those of one ``credential`` or one ``model`` of it ('': of any)."""

    provider: str
    credential: str = ""
    model: str = ""

    def __str__(self) -> str:
        credential = f"/{self.credential}" if self.credential else ""
        return f"{self.provider}{credential}" + (f":{self.model}" if self.model else "")

    def means(self, key: UpstreamKey) -> bool:
        """Whether this one is among them."""
        provider, model, credential = key
        return provider == self.provider and self.credential in ("", credential) and self.model in ("", model)


def named(text: str) -> Reach:
    """What ``PROVIDER[/CREDENTIAL][:MODEL]`` names. Raises ``ValueError``."""
    place, _, model = text.partition(":")
    provider, _, credential = place.partition("/")
    if not provider:
        raise ValueError(f"{text!r} names no provider; write PROVIDER[/CREDENTIAL][:MODEL]")
    return Reach(provider, credential, model)


class Switch(msgspec.Struct, frozen=True):
    """What was said of some upstreams. Times are in epoch milliseconds; ``until`` None: until something else is said.

    What was learned of them before ``reset_at`` is to be forgotten.
    """

    reach: Reach
    state: SwitchState
    until: int | None = None
    why: str = ""
    changed_at: int = 0
    reset_at: int | None = None

    def holds(self, now: int) -> bool:
        """Whether it keeps requests away at this time."""
        return self.state != "on" and (self.until is None or now < self.until)


def switch_of(switches: Iterable[Switch], key: UpstreamKey) -> Switch | None:
    """The switch that keeps requests away from this one, of those that hold; the widest first."""
    found = [switch for switch in switches if switch.reach.means(key)]
    return min(found, key=_width, default=None)


def _width(switch: Switch) -> int:
    return (switch.reach.credential != "") + (switch.reach.model != "")
