"""TODO-DOOR relay."""
