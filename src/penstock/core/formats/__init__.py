"""Formats without a dialect: what is passed through as bytes between callers and providers, and never translated.

The way in: each of ``embeddings.py``, ``completions.py``, ``images.py``, ``moderations.py``, ``rerank.py``, ``speech.py`` and
``transcriptions.py`` says what is checked of a body (``CALLER``) and what is spoken to a provider (``UPSTREAM``);
``core/endpoints.py`` has a row for each. They share ``requests.py`` (bodies in JSON), ``multipart.py`` (bodies with a file),
``answers.py`` (whole answers) and ``streams.py`` (answers that come piece by piece: events, or sound).
"""
