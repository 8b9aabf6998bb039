"""Runs the migrations on the connection that ``penstock.store.sql.migrate`` hands over, in its one transaction."""

from alembic import context
from sqlalchemy import Connection

from penstock.store.sql.schema import metadata

connection = context.config.attributes["connection"]
if not isinstance(connection, Connection):
    raise TypeError("migrations are run by penstock.store.sql.migrate, which hands a connection over")
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
