"""Traces of requests for a collector: made after their end from the times that were noted, sampled, and without any content.

``records.py`` says what is told of a request, ``spans.py`` makes the spans of it, ``traces.py`` chooses and queues on the way
of requests and sends beside it, ``client_metrics.py`` adds up what providers are asked; ``otlp.py`` and ``otlp_metrics.py``
alone know OpenTelemetry's packages.
"""
