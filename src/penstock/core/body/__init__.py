"""TODO-DOOR body."""
