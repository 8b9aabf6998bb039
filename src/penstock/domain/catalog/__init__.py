"""The catalogue: providers, models and plans, as a TOML document, in the database, and as one snapshot."""
