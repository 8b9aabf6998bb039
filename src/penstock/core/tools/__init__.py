"""TODO-DOOR tools."""
