"""Dialects: how requests and answers cross between what a caller speaks and what an upstream speaks.

A ``Dialect`` (``interface.py``) has a side towards callers, a side towards upstreams, or both. Each is made in
``<name>/dialect.py`` and is a line of ``registry.py``. The way of a request: ``prepare.py`` passes the caller's bytes
through where both speak the same (``<name>/passthrough.py``), and translates elsewhere: ``decode_request`` of the caller's
dialect, the neutral form, ``encode_request`` of the upstream's. What does not cross is a ``Loss`` of ``losses.py``.

The way of an answer is a lane (``lanes.py``): a ``Passthrough``, or a ``Translation`` from ``decode_response`` by events
to ``encode_response``. A whole answer is the fold of its events (``core/neutral/fold.py``).

Every dialect has the same files: ``dialect``, ``request_schema``, ``decode_request``, ``encode_request``,
``response_schema``, ``decode_response``, ``encode_response``, ``passthrough``; an upstream-only dialect has half of them.
``text_form`` says where the text of a usual frame stands, so that the next one need not be read (``forms.py``,
``learning_decoder.py``). ``openai/`` is no dialect: it holds what Chat and Responses share.
No dialect imports another's folder.

``upstream_error_text.py`` and ``context_overflow.py`` read what upstreams say when they fail.

Why: docs/translation.md, docs/architecture.md (two lanes), docs/decisions/0013-the-house.md.
"""
