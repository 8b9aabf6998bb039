"""Tokens that providers want in place of a lasting key: what is asked of whom, and what comes back. Nothing here is sent.

``aws.py`` makes a short-lived key of Bedrock from IAM credentials, ``google.py`` and ``entra.py`` say what a token's endpoint
is asked and read its answer. ``operations/token_sources.py`` sends it and keeps the token until it is near its end.
"""
