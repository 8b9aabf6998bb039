"""The Chat Completions dialect (OpenAI's older format, spoken by most vendors)."""
