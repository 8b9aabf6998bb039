"""TODO-DOOR sql."""
