"""Reasoning between dialects: its signatures, the cache for callers that do not send it back, and its redaction."""
