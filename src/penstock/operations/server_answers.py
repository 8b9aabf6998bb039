"""What a serving process answers on its control socket: its state, and the providers' lists by its own keys."""

import os
from collections.abc import Callable

from penstock import __version__
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.catalog_store import load_document
from penstock.operations.control import ControlAnswers, ServerListings, ServerState
from penstock.operations.health import Health
from penstock.operations.model_catalog import providers_of
from penstock.operations.model_discovery import ask_all
from penstock.operations.provider_refusals import ProviderRefusals
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS
from penstock.store.sql.database import Database


class ServerAnswers:
    """The answers of one serving process."""

    def __init__(
        self,
        database: Database,
        catalog: Callable[[], Catalog],
        secrets: Secrets,
        refusals: ProviderRefusals,
        health: Health,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._secrets = secrets
        self._refusals = refusals
        self._health = health

    def table(self) -> ControlAnswers:
        """Each question with what answers it."""
        return {"state": self.state, "listings": self.listings}

    async def state(self) -> ServerState:
        """What is known at once."""
        catalog = self._catalog()
        return ServerState(
            pid=os.getpid(),
            version=__version__,
            revision=catalog.revision,
            simulated=catalog.simulated,
            served=tuple(model.id for model in catalog.models.values() if catalog.served(model)),
            secrets={name: self._secrets.has(name) for name in catalog.references()},
            refusals=self._refusals.recent(),
            failing=self._health.failing(),
        )

    async def listings(self) -> ServerListings:
        """What every provider lists whose key this process has."""
        async with self._database.connect() as conn:
            document = await load_document(conn, KINDS)
        rows = [row for row in providers_of(document) if self._secrets.ready(row)]
        return ServerListings(await ask_all(rows, self._secrets))
