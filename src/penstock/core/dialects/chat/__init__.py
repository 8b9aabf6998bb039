"""TODO-DOOR chat."""
