"""TODO-DOOR catalog."""
