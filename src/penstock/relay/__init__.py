"""The life of a request, from an admitted ``Call`` to a settled row of the ledger.

The way in: ``api/handler.py`` makes a ``Call`` (``call.py``) of what it knows of the caller, the plan and the body, and
awaits ``Relay.run`` (``relay.py``), whose methods are the phases in their order:

1. The limiter (``domain/limits.py``) gives a lease; ``router.py`` chooses the attempts and keeps the circuit breakers.
2. ``answer.py`` prepares the body for the first upstream, in the thread of ``offload.py`` if it is large.
3. The request is counted, and ``record.py`` makes the ledger's row of it. Only then is an upstream contacted.
4. ``failover.py`` makes one attempt after another while nothing has gone to the caller; ``upstream_errors.py`` says
   whose fault a failure is.
5. A stream goes through ``stream.py``, fed by upstream bytes and by a lane of ``answer.py``; a whole answer is read and
   crosses at once. ``continuation.py`` goes on with a turn that its upstream has paused.
6. ``usage.py`` notes the token counts, and ``Relay._settle`` ends all of it, whatever has happened.

What leaves: a response on the call's exchange, or a ``PenstockError`` where nothing has been sent yet. Token counting
(``token_counting.py``) goes the same way through router and failover, without a lease and without a row.

Why: docs/architecture.md, docs/counting.md, docs/decisions/0005-ledger-writer.md.
"""
