"""TODO-DOOR redis."""
