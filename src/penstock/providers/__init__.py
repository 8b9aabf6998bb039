"""Upstream vendors: one row each, how we sign in to them, and the simulator."""
