"""TODO-DOOR dialects."""
