"""The Messages dialect (Anthropic's format)."""
