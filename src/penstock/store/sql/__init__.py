"""The database on SQLite and on PostgreSQL: schema, connections, migrations, partitions and transfer."""
