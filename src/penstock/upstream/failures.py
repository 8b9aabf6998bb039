"""Failures: how an exchange with an upstream can fail."""

from enum import StrEnum


class FailureReason(StrEnum):
    """How an exchange with an upstream failed."""

    CONNECT = "connect"
    """No connection: name resolution, refusal, or the connect deadline."""
    TLS = "tls"
    """The TLS handshake or the certificate."""
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    CUT = "cut"
    """The connection was lost before the answer was complete."""
    PROTOCOL = "protocol"
    """What came back is not the HTTP that we can read."""
    TOO_LARGE = "too_large"
    """The answer's head or body exceeds its bound."""


class UpstreamFailure(Exception):
    """An upstream did not deliver a complete answer.

    ``message`` is for the operator: it names host and port, never headers or bodies. ``sent`` is False where the request
    cannot have reached the upstream.
    """

    def __init__(self, reason: FailureReason, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.sent = sent


def bad_answer(message: str) -> UpstreamFailure:
    return UpstreamFailure(FailureReason.PROTOCOL, message, sent=True)


def too_large(part: str, limit: int) -> UpstreamFailure:
    return UpstreamFailure(FailureReason.TOO_LARGE, f"the answer's {part} has over {limit} bytes", sent=True)


def no_connection(reason: FailureReason, message: str) -> UpstreamFailure:
    return UpstreamFailure(reason, message, sent=False)
