"""Reasoning between dialects: signatures, the cache of what a caller may not send back, and redaction."""
