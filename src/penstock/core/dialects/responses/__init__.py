"""The Responses dialect (OpenAI's newer format, spoken by Codex)."""
