"""Penstock: a self-hostable LLM API service that speaks the OpenAI and the Anthropic formats."""

__version__ = "0.1.0"
