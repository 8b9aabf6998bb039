"""Lines of the log about a running request say its trace, where there are traces."""

from collections.abc import Generator
from contextlib import contextmanager

from penstock.relay.relay import Relay


@contextmanager
def logged_traces(relay: Relay) -> Generator[None]:
    """They do, until the end."""

    def header_of(request_id: str) -> bytes | None:
        call = relay.calls.get(request_id)
        return None if call is None else call.exchange.header(b"traceparent")

    if relay.traces is None:
        yield
    else:
        with relay.traces.logged(header_of):
            yield
