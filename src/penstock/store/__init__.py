"""Stores: tables, migrations and the database, Redis, the counters, the journal, and the secrets file."""
