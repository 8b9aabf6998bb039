"""TODO-DOOR neutral."""
