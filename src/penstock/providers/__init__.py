"""Upstream vendors, one row each."""
