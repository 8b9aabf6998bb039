"""The ledger of requests: written, recovered, counted up, compared, kept for a time, and read."""
