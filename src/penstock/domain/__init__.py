"""The rules and queries of one subject per module; each function takes a transaction."""
