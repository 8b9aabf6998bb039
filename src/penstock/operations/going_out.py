"""What goes out of a process by itself: events to the staff, and settled requests to their destinations."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

from penstock import __version__
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.notifications.staff_events import Condition
from penstock.operations.conditions import ModelEndings, conditions_of_parts
from penstock.operations.exporter import Exporter
from penstock.operations.health import Health
from penstock.operations.metrics import Metrics
from penstock.operations.notifier import Notifier
from penstock.operations.release_watch import ReleaseWatch
from penstock.settings import Settings
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database


@asynccontextmanager
async def going_out(
    settings: Settings,
    database: Database,
    secrets_file: SecretsFile,
    metrics: Metrics,
    health: Health,
    catalog: Callable[[], Catalog],
    upstreams: Callable[[], list[Condition]],
    now: Callable[[], float],
    queued: Callable[[], None],
) -> AsyncGenerator[tuple[Notifier, Exporter]]:
    """Both, at work. ``upstreams`` says what lasts there; ``now`` gives epoch seconds; ``queued``: a mail was queued."""
    sees: tuple[Callable[[], list[Condition]], ...] = (
        partial(conditions_of_parts, health),
        upstreams,
        ModelEndings(catalog, now).conditions,
    )
    releases = ReleaseWatch(settings.release_url, __version__) if settings.release_url else None
    if releases is not None:
        sees = (*sees, releases.conditions)
    notifier = Notifier(
        database,
        secrets_file,
        settings,
        metrics,
        sees=sees,
        now=now,
        mail_queued=queued,
        releases=releases,
    )
    exporter = Exporter(database, secrets_file, settings, metrics, catalog, now=now)
    async with notifier.running(), exporter.running():
        yield notifier, exporter
