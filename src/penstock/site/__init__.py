"""TODO-DOOR site."""
