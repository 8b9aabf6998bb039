"""Bounds: how much an upstream is sent, by what it says is left of its limits, and by how many requests it takes at once."""
