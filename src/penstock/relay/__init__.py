"""The life of a request, from an admitted caller to a settled row of the ledger.

The way in: ``api/handler.py`` calls ``Relay.begin`` (``relay.py``) with the standing record of its caller and model
(``standing.py``) and the body. The ``RelayedCall`` (``relayed_call.py``) that is made there is a state machine, told in
words at the head of that module; its data are those of ``Call`` (``call.py``), and what all calls share is in
``relay_parts.py``. By its states:

1. Entering: the limiter (``domain/limits.py``) gives a lease.
2. Preparing: ``router.py`` chooses the attempts and keeps the circuit breakers; ``answer.py`` writes the body for an
   upstream, in the thread of ``offload.py`` if it is large. The request is counted, and the ledger has its row. What a
   body asks of the choice is in ``wishes.py``; where upstreams take only so many requests, ``upstream_queue.py`` says whose
   turn it is. What such a call has to remember is its ``detour.py``; what a model has said that refuses, while another is
   asked, is in ``refused_answer.py``.
3. Sending: ``failover.py`` says which attempt comes next, ``upstream_errors.py`` whose fault a failure is.
4. Answering: a stream goes through ``stream.py`` and ``pipe.py``, fed by upstream bytes and by a lane of ``answer.py``; a
   whole answer is gathered (``answer_memory.py``) and crosses at once, under the head of ``answer_head.py``.
   ``continuation.py`` goes on with a turn that its upstream has paused.
5. Ended: ``usage.py`` notes what the answer counts, ``record.py`` tells the ledger.

What leaves: a response on the call's exchange, and a word to the ``Front`` that began it. Token counting
(``token_counting.py``) goes by the same router and failover, without a lease and without a row.
"""
