"""Where the parts meet: one serving process, built from its settings, started and stopped in order."""

import asyncio
import itertools
import logging
import os
import random
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from penstock.domain.catalog_store import CatalogSource
from penstock.domain.keys import Keyring
from penstock.domain.ledger import Ledger
from penstock.domain.limits import Gate
from penstock.core.limits import day_of
from penstock.errors import DatabaseUnavailable, PenstockError
from penstock.exchange import Exchange
from penstock.metrics import Metrics
from penstock.providers.detect import Secrets
from penstock.providers.simulator import simulator
from penstock.providers.table import KINDS
from penstock.relay import Relay, Timings
from penstock.settings import Settings
from penstock.store.counters import MemoryCounters
from penstock.store.database import Database
from penstock.store.vault import Vault
from penstock.switchboard import Switchboard
from penstock.upstream import Deadlines, UpstreamClient
from penstock.web.api import Api, owns
from penstock.web.site import Site

log = logging.getLogger("penstock.app")
