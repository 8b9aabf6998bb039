"""HTTP/1.1 towards callers: requests in, under limits that hold before anything is parsed; responses out, at their pace.

The way in: ``listen.py`` opens the sockets and makes a ``Connection`` (``connection.py``) of each caller, which reads a
``RequestHead`` (``request_head.py``) and finds out who calls behind a proxy (``forwarded.py``). By its path the request
belongs to the data plane or to the site:

- The data plane gets a ``ServedExchange`` (``served_exchange.py``, the ``Exchange`` of ``exchange.py``) and a plain call:
  it answers, takes the exchange over, or gives a coroutine for a task. A body arrives by its length or through
  ``chunked.py``; the response is framed as it is written.
- The site gets a cycle of uvicorn's (``asgi_bridge.py``) on the same connection, under the same limits (``limits.py``).

All connections of a server share one timer, which finds the overdue (``shared_state.py``). A caller that leaves is told to
whoever has its exchange, or cancels the task. What leaves: bytes on the socket, and at the end a drain in ``listen.py``
that cuts nobody off who can still be served. ``supervisor.py`` runs several such processes on one address.

Nothing here knows what a request means.

Why: docs/decisions/0004-server.md, docs/decisions/0008-workers.md.
"""
