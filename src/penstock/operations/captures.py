"""Captures at work: which requests are captured now, and what was captured on its way into the database, sealed.

The orders are read every few seconds; where they change, what was decided for callers is decided anew. What is captured is
bounded in memory; where there is too much, or the redaction fails, it is not kept, and that is logged.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from secrets import token_bytes
from typing import Final

from penstock.core.revision import Revision
from penstock.domain.captures.kept import (
    CaptureContent,
    CapturedRequest,
    SealedCapture,
    seal_capture,
    write_captures,
)
from penstock.domain.captures.orders import CaptureOrder, running_orders
from penstock.errors import OperatorError
from penstock.settings import Settings
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import Database

log = logging.getLogger("penstock.operations.captures")

REDACTIONS: Final = "penstock.redactions"
"""The group of entry points in which a redaction of the operator's is found by its name."""
_MOST_WAITING: Final = 64 * 1024 * 1024
"""Bytes that wait to be written at most."""
_CREDENTIAL: Final = re.compile(rb"\b(?:sk|pa)-[A-Za-z0-9_-]{8,}|(?i:\bbearer\s+)[^\s\"']{8,}")

Redaction = Callable[[bytes], bytes]
"""Takes what is not to be kept out of what was asked or answered."""


def redaction_named(name: str) -> Redaction:
    """The operator's own redaction; '' is none. Raises ``OperatorError`` where there is no such."""
    if not name:
        return _as_it_is
    found = [it for it in entry_points(group=REDACTIONS) if it.name == name]
    if not found:
        raise OperatorError(
            f"capture_redaction: no package here has {name!r} in its entry points {REDACTIONS}"
        )
    return found[0].load()


def _as_it_is(text: bytes) -> bytes:
    return text


def captures_for(
    settings: Settings,
    database: Database,
    secrets_file: SecretsFile,
    revision: Revision,
    now: Callable[[], float],
) -> "Captures | None":
    """What captures where an owner says so; None where the settings rule that out. Raises ``OperatorError``."""
    if settings.captures == "never":
        return None
    return Captures(
        database,
        secrets_file,
        revision,
        most=settings.capture_bytes,
        redaction=redaction_named(settings.capture_redaction),
        now=now,
        entropy=token_bytes,
    )


class Captures:
    """What one process captures. All on one event loop, but for redaction and sealing, which a thread does."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        revision: Revision,
        *,
        most: int,
        redaction: Redaction,
        now: Callable[[], float],
        entropy: Entropy,
    ) -> None:
        """``most`` is the bytes that are kept of a request and its answer together; ``now`` gives epoch seconds."""
        self._database = database
        self._secrets_file = secrets_file
        self._revision = revision
        self.most = most
        self._redaction = redaction
        self._now = now
        self._entropy = entropy
        self._orders: dict[tuple[str, str], CaptureOrder] = {}
        self._made: list[CapturedRequest] = []
        self._rows: list[SealedCapture] = []
        self._waiting = 0
        self._turn = asyncio.Lock()

    def order_for(self, account_id: str, key_id: str) -> CaptureOrder | None:
        """By which order requests of this key are captured; None where they are not."""
        if not self._orders:
            return None
        found = self._orders.get((account_id, key_id)) or self._orders.get((account_id, ""))
        return found if found is not None and found.runs(int(self._now() * 1000)) else None

    def take(self, made: CapturedRequest) -> None:
        """Take what was captured. Never waits, never raises."""
        size = len(made.content.asked) + len(made.content.answered)
        if self._waiting + size > _MOST_WAITING:
            log.warning("there is too much to capture", extra={"request_id": made.request_id})
            return
        self._waiting += size
        self._made.append(made)

    async def round(self) -> None:
        """Follow the orders, and write what was captured. Raises ``DatabaseUnavailable``, and keeps it then."""
        async with self._database.connect() as conn:
            running = await running_orders(conn, now=int(self._now() * 1000))
        orders = {(it.account_id, it.key_id): it for it in running}
        if orders != self._orders:
            self._orders = orders
            self._revision.advance()
        await self.flush()

    async def flush(self) -> None:
        """Write what was captured."""
        async with self._turn:
            made, self._made = self._made, []
            if made:
                self._rows += await asyncio.to_thread(self._sealed, made)
            if self._rows:
                await write_captures(self._database, self._rows)
            self._rows.clear()
            self._waiting = sum(len(it.content.asked) + len(it.content.answered) for it in self._made)

    def _sealed(self, made: list[CapturedRequest]) -> list[SealedCapture]:
        rows: list[SealedCapture] = []
        for each in made:
            try:
                content = CaptureContent(
                    self._redacted(each.content.asked),
                    self._redacted(each.content.answered),
                    each.content.cut,
                )
            except Exception:  # noqa: BLE001 - the operator's own code, whose error may quote what it was given
                log.error("the redaction failed; nothing is kept", extra={"request_id": each.request_id})  # noqa: TRY400 - likewise
                continue
            redacted = CapturedRequest(
                each.request_id,
                each.order_id,
                each.account_id,
                each.key_id,
                each.at,
                each.status,
                content,
            )
            rows.append(seal_capture(redacted, self._secrets_file, self._entropy))
        return rows

    def _redacted(self, text: bytes) -> bytes:
        return self._redaction(_CREDENTIAL.sub(b"(hidden)", text))
