"""TODO-DOOR messages."""
