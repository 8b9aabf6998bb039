"""Exports of settled requests: which were settled, in which order, where they go, and what is told of each."""
