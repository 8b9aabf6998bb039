"""Rules and queries, one subject to a module."""
