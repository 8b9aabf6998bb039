"""API keys: who is calling (authentication), and what an owner does with keys (management)."""
