"""TODO-DOOR oauth."""
