"""Kept keys in this process: opened when the catalogue is read, and handed to the secrets that requests are signed with."""

import logging
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.catalog import Upstream
from penstock.domain.catalog.kept_keys import open_keys
from penstock.providers.secrets import Secret, Secrets
from penstock.store.secrets_file import SecretsFile

log = logging.getLogger("penstock.operations.kept_keys")


class KeptKeys:
    """Opens the kept keys of a catalogue for ``CatalogSource``."""

    def __init__(self, secrets_file: SecretsFile, secrets: Secrets) -> None:
        self._secrets_file = secrets_file
        self._secrets = secrets

    async def open(self, conn: AsyncConnection, providers: Sequence[Upstream]) -> bool:
        """Hand over the keys of these providers; whether all could be opened.

        One that the key ring does not open is used on as it was known, since the ring is being rotated on another server.
        """
        found: dict[str, Secret | str] = {}
        shut = False
        for it in await open_keys(conn, self._secrets_file, providers):
            before = self._secrets.kept(it.reference)
            if it.value is not None:
                found[it.reference] = Secret(it.value.decode())
                continue
            shut = shut or it.shut
            found[it.reference] = before if it.shut and isinstance(before, Secret) else it.problem
            if it.problem != before:
                log.warning("a provider's key cannot be used: %s", it.problem)
        self._secrets.take(found)
        return not shut
