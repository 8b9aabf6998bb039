"""TODO-DOOR openai."""
