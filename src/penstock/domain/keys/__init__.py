"""API keys: authentication of callers, and management by their owners."""
