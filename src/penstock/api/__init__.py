"""The data plane's HTTP face: everything under ``/v1`` and ``/api``, from the first header to the last error body.

The way in: the server calls ``Api`` (``handler.py``) with an ``Exchange``. ``routes.py`` finds the action and the endpoint of
the path; its table is made from ``core/endpoints.py``. Then, for a request to a model:

1. ``authenticate.py`` reads the caller's key from the headers, and ``domain/keys/authentication.py`` says whose it is.
   ``client_families.py`` knows the program by its user agent.
2. ``body_memory.py`` reserves memory for the body; only now is it read, and ``request_body.py`` checks its top level.
3. The catalogue resolves the model for the caller's plan, and all of it goes to the relay with its standing record.

What leaves: the relay's response, or an error as a response (``error_responses.py``, with ``help_links.py``) in the form
that the caller's client parses. Every answer carries a request id and the caller's limits. ``GET /models``, ``/doctor``
(``connection_check.py``) and the hello are answered here.

Why: docs/architecture.md, docs/counting.md.
"""
