"""Routing: who is asked for an answer, what is known of each that could be, and what follows from a failure.

The parts, in the order in which a request meets them:

- ``candidates.py``: the targets of a model as callers of one dialect meet them, in tiers, for one revision of the catalogue.
- ``preferences.py``: what callers and plans ask of the choice, as another order of the same targets.
- ``choice.py``: ``choose`` takes one of them, and is asked again after each failure. ``last_resort.py``: what is done where
  none is to be had.
- ``affinity.py``: which target a conversation has for its own.
- ``health.py``: what is known of an upstream model; ``circuit_breaker.py``: when something is left out, and for how long;
  ``votes.py``: whose failures count.
- ``bounds/``: ``rate_headers.py`` and ``headroom.py``, what upstreams say is left of their limits; ``capacity.py`` and
  ``fair_queue.py``, how many requests one is sent at once, and whose turn it is where more wait.
- ``retry_budget.py``: how many second attempts a model may have. ``pace.py``: how quick a model is, and so how long an attempt
  may take.
- ``switches.py``: what an operator has said of upstreams. ``snapshot.py``: what is known, for another process;
  ``explanation.py``: what the choice would do with it.
- ``automatic.py``: the rule of ``auto`` models. ``rules.py``: every constant of all these, in one table.

All of it is arithmetic on its arguments: ``now`` is a monotonic clock in seconds, ``u`` a number in [0, 1) that the caller
has drawn. The relay and the simulation in ``bench/`` run the same functions.
"""
