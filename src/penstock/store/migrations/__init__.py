"""Alembic's folder: the steps by which the database became what ``store/sql/schema.py`` says."""
