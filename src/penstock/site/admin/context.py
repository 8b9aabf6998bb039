"""Context of the admin pages: that of the site, and what only staff see of the service."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from penstock.core.catalog import Upstream
from penstock.core.routing.switches import Reach
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.operations.health import Health
from penstock.operations.provider_check import ProviderChecks
from penstock.operations.upstream_test import Tested
from penstock.settings import Settings
from penstock.site.context import SiteContext


class RunningRequest(msgspec.Struct, frozen=True):
    """A request that this process serves now. ``since`` is epoch seconds."""

    id: str
    account_id: str
    key_id: str
    model: str
    provider: str
    upstream_model: str
    since: float
    state: str


class Operation(msgspec.Struct, frozen=True):
    """What the service tells staff of itself, and nobody else."""

    kinds: Mapping[str, Upstream]
    """The table of vendors."""
    settings: Settings
    origins: Mapping[str, str]
    """Where settings come from that are not defaults, by name."""
    secret_problem: Callable[[str], str | None]
    """Why a reference such as ``env:NAME`` leads to no secret; None where it does."""
    checks: ProviderChecks
    """Asks providers, with this process's secrets."""
    health: Health
    running: Callable[[], list[RunningRequest]]
    mail_queued: Callable[[], None]
    try_upstreams: Callable[[CatalogDocument, Reach], Awaitable[list[Tested]]]
    """Sends small real requests to these upstreams."""


class AdminContext(msgspec.Struct, frozen=True):
    """The parts that admin pages use."""

    site: SiteContext
    operation: Operation


class ConfirmQuestion(msgspec.Struct, frozen=True):
    """What is asked before something is done (``admin/confirm.html``): what it does, and on which button that is agreed to."""

    title: str
    text: str
    button: str
    danger: bool = True
    reason: bool = True
    typed: str = ""
    """What has to be typed in, so that it is meant."""
