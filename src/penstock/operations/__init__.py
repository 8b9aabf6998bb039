"""TODO-DOOR operations."""
