"""TODO-DOOR responses."""
