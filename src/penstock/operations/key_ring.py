"""The key ring of a running server: it is followed after a rotation, and what was on its way then is sealed anew."""

import logging
import secrets

from penstock.domain.sealed_columns import SEALED_COLUMNS
from penstock.store.sealed import reseal
from penstock.store.secrets_file import SecretsFile, SecretsFileError
from penstock.store.sql.database import Database

log = logging.getLogger("penstock.operations.key_ring")


class KeyRing:
    """The ring of one process."""

    def __init__(self, database: Database, secrets_file: SecretsFile) -> None:
        self._database = database
        self._secrets_file = secrets_file
        self._trouble = ""
        self._all_by = ""
        """The key of the ring that everything was sealed with when that was last looked at."""

    def follow(self) -> None:
        """Seal and digest with what a rotation has put first: what an older key seals after it would have to be found again."""
        trouble = ""
        try:
            if self._secrets_file.reread():
                self._all_by = ""  # an older key may have been put back, which opens what did not
                log.info("the secrets file changed", extra={"code": self._secrets_file.seal_id})
        except SecretsFileError as error:
            trouble = str(error)
        if trouble and trouble != self._trouble:
            log.error("the secrets file cannot be followed: %s", trouble)
        self._trouble = trouble

    async def reseal(self) -> None:
        """After a start and a change of the file, until nothing more is found that another key than the newest has sealed.

        What does not open stays as it is, and is looked at again after the next change.
        Raises ``DatabaseUnavailable``.
        """
        newest = self._secrets_file.seal_id
        if newest == self._all_by:
            return
        found = await reseal(self._database, SEALED_COLUMNS, self._secrets_file, secrets.token_bytes)
        if not found.done:
            self._all_by = newest
            if found.shut:
                log.warning(
                    "copies do not open: the secrets file lacks their key", extra={"rows": found.shut}
                )
        else:
            log.info("copies were sealed anew", extra={"rows": found.done})
