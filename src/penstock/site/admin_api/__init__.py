"""The admin API under ``/admin/api/v1``: what the pages and the commands do, as JSON, for programs that have a token.

The way in: ``parity.py`` is the table of all operations, each with the page, the command and the route by which it is called;
``access.py`` stands before every route (which token, what it may, how often); ``dispatch.py`` reads the request, calls the
operation in one transaction and answers it, once for each ``Idempotency-Key``. ``people_routes.py``, ``catalog_routes.py``
and ``service_routes.py`` ask ``domain/staff/`` and ``domain/trail/``, as the pages do; no route has a rule of its own.
``description.py`` writes the part of ``openapi.json`` that tells of it.
"""
