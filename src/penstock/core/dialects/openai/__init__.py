"""What Chat and Responses share: both are OpenAI's, field by field."""
