"""A collector of traces and metrics: takes what is sent by OTLP over HTTP on loopback, decoded as the protocol says."""

import asyncio
import gzip
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.service.scripted import PATIENCE


class Collected:
    """One span as it has arrived."""

    def __init__(self, span: Span, resource: dict[str, Any]) -> None:
        self.name = span.name
        self.trace = span.trace_id.hex()
        self.id = span.span_id.hex()
        self.parent = span.parent_span_id.hex()
        self.server = span.kind == Span.SPAN_KIND_SERVER
        self.failed = span.status.code == 2
        self.began, self.ended = span.start_time_unix_nano, span.end_time_unix_nano
        self.said = _values(span.attributes)
        self.resource = resource
        assert not span.events
        assert not span.links
        assert not span.status.message


class Collector:
    """What has arrived, the newest last. ``status`` is answered to what comes."""

    def __init__(self) -> None:
        self.spans: list[Collected] = []
        self.metrics: dict[str, list[tuple[dict[str, Any], Any]]] = {}
        """The points of the last time, with their labels, by the names of their metrics."""
        self.raw = b""
        self.heads: list[bytes] = []
        self.status = 200
        self.url = ""
        self.writers: list[asyncio.StreamWriter] = []
        self._arrived = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request by request."""
        self.writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: (\d+)", head)
                assert length is not None
                body = await reader.readexactly(int(length[1]))
                self.heads.append(head)
                if b"content-encoding: gzip" in head:
                    body = gzip.decompress(body)
                if self.status == 200:
                    (self._take_metrics if b"/v1/metrics" in head else self._take)(body)
                self._arrived.set()
                answer = ExportTraceServiceResponse().SerializeToString()
                writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/x-protobuf\r\n" % self.status)
                writer.write(b"content-length: %d\r\n\r\n%b" % (len(answer), answer))

    def _take(self, body: bytes) -> None:
        self.raw += body
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(of_resource.resource.attributes)
            for scoped in of_resource.scope_spans:
                self.spans += [Collected(span, resource) for span in scoped.spans]

    def _take_metrics(self, body: bytes) -> None:
        self.raw += body
        for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            assert _values(of_resource.resource.attributes)["service.instance.id"]
            for scoped in of_resource.scope_metrics:
                self.metrics = {
                    metric.name: [
                        (_values(point.attributes), point) for point in metric.histogram.data_points
                    ]
                    for metric in scoped.metrics
                }

    async def of(self, request_id: str) -> list[Collected]:
        """The spans of a request, its own first, once they are here."""
        async with asyncio.timeout(PATIENCE):
            while request_id not in self.ids():
                self._arrived.clear()
                await self._arrived.wait()
        (own,) = [it for it in self.spans if it.said.get("penstock.request_id") == request_id]
        below = [it for it in self.spans if it.parent == own.id]
        return [own, *sorted(below, key=lambda it: it.said["penstock.attempt"])]

    async def asked(self) -> None:
        """Wait until something is sent, taken or not."""
        self._arrived.clear()
        async with asyncio.timeout(PATIENCE):
            await self._arrived.wait()

    def ids(self) -> set[str]:
        """The requests whose spans are here."""
        return {it.said["penstock.request_id"] for it in self.spans if it.server}


@asynccontextmanager
async def collecting() -> AsyncGenerator[Collector]:
    """A collector on a free loopback port."""
    collector = Collector()
    server = await asyncio.start_server(collector.serve, "127.0.0.1", 0)
    collector.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces"
    try:
        yield collector
    finally:
        server.close()
        for writer in collector.writers:
            writer.close()
        await server.wait_closed()


def _values(attributes: Any) -> dict[str, Any]:
    return {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in attributes}
