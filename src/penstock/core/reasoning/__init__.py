"""TODO-DOOR reasoning."""
