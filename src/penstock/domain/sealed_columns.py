"""Everything that is kept sealed in the database: one table, which the rotation of the key ring and its test read.

Outside the database nothing that lasts is sealed. The journal and Redis hold no secret. The cookies of "view as", of signing in
through others and of the first key's page are sealed for minutes: whoever holds one whose key leaves the ring begins again.
"""

from typing import Final

from penstock.domain.accounts.credentials import SEALED_SECOND_FACTORS
from penstock.domain.captures.kept import SEALED_CAPTURES
from penstock.domain.catalog.kept_keys import SEALED_PROVIDER_KEYS
from penstock.domain.exports.destinations import SEALED_DESTINATIONS
from penstock.domain.keys.management import SEALED_KEYS
from penstock.domain.mail.outbox import SEALED_MAILS
from penstock.domain.notifications.deliveries import SEALED_DELIVERIES
from penstock.domain.notifications.webhooks import SEALED_WEBHOOKS
from penstock.domain.staff.idempotency import SEALED_ANSWERS
from penstock.store.sealed import SealedColumn

SEALED_COLUMNS: Final[tuple[SealedColumn, ...]] = (
    SEALED_KEYS,  # keys of callers, to be shown again
    SEALED_PROVIDER_KEYS,  # keys of providers and passphrases of proxies
    SEALED_SECOND_FACTORS,  # secrets of authenticator apps
    SEALED_WEBHOOKS,  # addresses and signing secrets of webhooks
    SEALED_DESTINATIONS,  # the same of exports, and secrets of buckets
    SEALED_MAILS,  # mails that have not gone out
    SEALED_DELIVERIES,  # what webhooks and mail addresses of rules are told
    SEALED_ANSWERS,  # answers of the admin API under an idempotency key
    SEALED_CAPTURES,  # captured content
)
