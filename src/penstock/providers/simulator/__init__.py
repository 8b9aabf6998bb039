"""TODO-DOOR simulator."""
