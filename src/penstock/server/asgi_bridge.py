"""The ASGI bridge: a request for the site runs in uvicorn's request cycle, on a connection that keeps our limits."""

import asyncio
import logging
from typing import Protocol, cast
from urllib.parse import unquote

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from penstock.errors import PenstockError, RequestTooLarge
from penstock.exchange import HeaderList
from penstock.server.limits import ASGIApp, AsgiMessage
from penstock.server.request_head import RequestHead

log = logging.getLogger("uvicorn.error")


class SiteLine(Protocol):
    """What the site's request needs of the connection that carries it."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl
    keep_alive: bool
    max_body: int

    def response_done(self) -> None:
        """The response is complete: the next request may begin."""
        ...

    def cut(self, *, reset: bool) -> None:
        """Close so that the caller sees the response as unfinished."""
        ...

    def refuse_unread(self, head: RequestHead, error: PenstockError) -> None:
        """Answer the request with an error, in place of the site, and close."""
        ...


class _Closer:
    """The transport as uvicorn's cycle sees it: closing is left to the connection, which does not cut off the answer."""

    __slots__ = ("_call",)

    def __init__(self, call: "SiteCall") -> None:
        self._call = call

    def write(self, data: bytes) -> None:
        self._call.line.transport.write(data)

    def is_closing(self) -> bool:
        return self._call.line.transport.is_closing()

    def close(self) -> None:
        call = self._call
        if call.cycle.response_complete:
            call.line.keep_alive = False  # and ``response_done``, which follows, closes
        elif not call.cycle.disconnected:
            call.line.cut(reset=False)


class SiteCall:
    """One request of the site, from its head to the end of its response."""

    __slots__ = ("cycle", "head", "line", "received", "scope")

    def __init__(self, line: SiteLine, head: RequestHead, client: str, scheme: str, date: HeaderList) -> None:
        self.line = line
        self.head = head
        self.received = 0
        self.scope: AsgiMessage = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version,
            "server": line.transport.get_extra_info("sockname")[:2],
            "client": (client, 0),
            "scheme": scheme,
            "method": head.method,
            "root_path": "",
            "path": unquote(head.path),
            "raw_path": head.path.encode("ascii"),
            "query_string": head.query,
            "headers": list(head.headers),  # its own: the connection may know the next head by this one
            "state": {},
        }
        self.cycle = RequestResponseCycle(
            scope=self.scope,  # pyright: ignore[reportArgumentType]
            transport=cast(asyncio.Transport, _Closer(self)),
            flow=line.flow,
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=date,
            message_event=asyncio.Event(),
            expect_100_continue=head.expects,
            keep_alive=line.keep_alive,
            on_response=line.response_done,
        )
        self.cycle.more_body = head.length != 0
        if not self.cycle.more_body:
            self.cycle.message_event.set()

    async def run(self, site: ASGIApp) -> None:
        """Run the site; uvicorn answers 500 or cuts where the site fails."""
        await self.cycle.run_asgi(site)  # pyright: ignore[reportArgumentType]

    def take_body(self, piece: bytes) -> None:
        cycle = self.cycle
        if cycle.response_complete:
            return
        self.received += len(piece)
        if self.received > self.line.max_body:
            self.fail_body(RequestTooLarge(f"The request body is larger than {self.line.max_body} bytes."))
            return
        cycle.body += piece
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.line.flow.pause_reading()
        cycle.message_event.set()

    def end_body(self) -> None:
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def fail_body(self, error: PenstockError) -> None:
        """The site sees its caller go away; the caller gets the reason, unless the site had begun to answer."""
        started = self.cycle.response_started
        self.lose()
        if started:
            self.line.cut(reset=False)
        else:
            self.line.refuse_unread(self.head, error)

    def stall(self) -> None:
        """uvicorn's cycle waits on the connection's flow control by itself."""

    def resume(self) -> None:
        """uvicorn's cycle waits on the connection's flow control by itself."""

    def lose(self) -> None:
        """The caller is gone. As in ASGI, the site learns so where it listens, and is not cancelled."""
        if not self.cycle.response_complete:
            self.cycle.disconnected = True
        self.cycle.message_event.set()
