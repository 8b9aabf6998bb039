"""TODO-DOOR accounts."""
