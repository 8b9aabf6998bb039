"""TODO-DOOR keys."""
