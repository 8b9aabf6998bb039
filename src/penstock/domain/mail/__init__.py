"""TODO-DOOR mail."""
