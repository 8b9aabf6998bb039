"""Shared counters in Redis: the connection, the scripts, leases and daily counts."""
