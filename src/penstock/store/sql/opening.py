"""The database as the settings name it."""

from penstock.settings import Settings
from penstock.store.sql.backend import Pool
from penstock.store.sql.database import Database


async def open_database(settings: Settings, *, migrate: bool = True) -> Database:
    """The database that the settings name. Raises ``StoreError``."""
    return await Database.open(
        settings.database_url,
        directory=settings.data,
        synchronous=settings.database_synchronous,
        pool=Pool(
            size=settings.database_pool,
            connect=settings.database_connect,
            statement=settings.database_statement,
            lock=settings.database_lock,
        ),
        migrate=migrate,
    )
