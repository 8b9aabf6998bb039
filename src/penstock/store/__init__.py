"""What is kept: tables, migrations, the database, and the counters."""
