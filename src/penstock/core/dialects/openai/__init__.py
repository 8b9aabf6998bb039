"""What Chat and Responses share, because both are OpenAI's."""
