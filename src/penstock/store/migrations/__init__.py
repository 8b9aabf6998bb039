"""Alembic's folder: how the database came to be what ``schema.py`` says."""
