"""``python -m bench.outage``: PostgreSQL is stopped under load and comes back; what callers saw, and what the books say.

A PostgreSQL of its own is started, a server on it with the built-in simulator, and ``--users`` callers who together ask
``--rate`` times a second. After ``--before`` seconds the database is ended as by a crash, for ``--away`` seconds; the load goes
on for ``--after`` seconds. A stranger, whose key the server has not seen, asks once a second all the while. Then every
answer with 200 is looked up in the ledger by its request id, and ``penstock reconcile`` compares the day.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from penstock.store.request_key import id_of
from tests.stores import Cluster

PENSTOCK = (sys.executable, "-m", "penstock")
BODY = json.dumps(
    {"model": "claude-haiku-4.5", "max_tokens": 16, "messages": [{"role": "user", "content": "hello"}]}
).encode()


@dataclass
class Seen:
    """What one kind of caller saw, by phase."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    answered: list[str] = field(default_factory=list)
    last_refused: float = 0.0

    def note(self, phase: str, status: int, seconds: float, request_id: str) -> None:
        self.statuses.setdefault(phase, Counter())[status] += 1
        self.slowest[phase] = max(self.slowest.get(phase, 0.0), seconds)
        if status == 200:
            self.answered.append(request_id)
        else:
            self.last_refused = time.monotonic()


class Outage:
    """One run."""

    def __init__(self, port: int, options: argparse.Namespace) -> None:
        self.port = port
        self.options = options
        self.phase = "before"
        self.known = Seen()
        self.stranger = Seen()
        self._asking: set[asyncio.Task[None]] = set()

    async def ask(self, key: str, seen: Seen) -> None:
        phase, at = self.phase, time.monotonic()
        status, request_id = await _post(self.port, key)
        seen.note(phase, status, time.monotonic() - at, request_id)

    async def load(self, keys: list[str], seen: Seen, rate: float) -> None:
        turn = 0
        start = time.monotonic()
        while True:
            task = asyncio.create_task(self.ask(keys[turn % len(keys)], seen))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            turn += 1
            await asyncio.sleep(max(0.0, start + turn / rate - time.monotonic()))

    async def finish(self) -> None:
        await asyncio.gather(*self._asking)


async def _post(port: int, key: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"X-Api-Key: %b\r\nContent-Length: %d\r\n\r\n%b" % (key.encode(), len(BODY), BODY)
        )
        answer = await reader.read()
    finally:
        writer.close()
    head = answer.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
    ids = [line.split(": ", 1)[1] for line in head if line.startswith("x-request-id")]
    return int(head[0].split()[1]), ids[0] if ids else ""


async def _ready(port: int) -> str:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return ""
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2].decode()


def _penstock(environment: dict[str, str], *arguments: str) -> dict[str, str]:
    done = subprocess.run(
        [*PENSTOCK, *arguments, "--json"], env=environment, check=False, capture_output=True, text=True
    )
    return json.loads(done.stdout)


async def run(options: argparse.Namespace) -> dict[str, object]:
    cluster = Cluster()
    cluster.start()
    folder = tempfile.TemporaryDirectory()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")},
        "PENSTOCK_DATA": f"{folder.name}/data",
        "PENSTOCK_DATABASE_URL": f"{cluster.address}/postgres",
        "PENSTOCK_LOG_LEVEL": "error",
    }
    users = [
        _penstock(
            environment, "user", "create", "--email", f"u{n}@example.com", "--plan", "pro", "--verified"
        )
        for n in range(options.users)
    ]
    strangers = [
        _penstock(environment, "key", "create", "--email", "u0@example.com", "--name", f"s{n}")["key"]
        for n in range(3)
    ]
    port = _free_port()
    with (Path(folder.name) / "log").open("w") as log:
        server = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs yet
            [*PENSTOCK, "serve", "--port", str(port)], env=environment, stdout=subprocess.DEVNULL, stderr=log
        )
    try:
        while await _ready(port) != "ready\n":  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(0.05)
        return await _outage(Outage(port, options), cluster, environment, users, strangers)
    finally:
        server.terminate()
        server.wait()
        cluster.remove()
        folder.cleanup()


async def _outage(
    outage: Outage,
    cluster: Cluster,
    environment: dict[str, str],
    users: list[dict[str, str]],
    strangers: list[str],
) -> dict[str, object]:
    options = outage.options
    loads = [asyncio.create_task(outage.load([user["key"] for user in users], outage.known, options.rate))]
    await asyncio.sleep(options.before)
    outage.phase = "away"
    await asyncio.to_thread(cluster.stop)
    loads.append(asyncio.create_task(outage.load(strangers, outage.stranger, 1.0)))
    await asyncio.sleep(options.away)
    await asyncio.to_thread(cluster.start)
    back = time.monotonic()
    outage.phase = "after"
    while await _ready(outage.port) != "ready\n":  # noqa: ASYNC110 - another process tells nobody
        await asyncio.sleep(0.02)
    ready = time.monotonic() - back
    await asyncio.sleep(options.after)
    for load in loads:
        load.cancel()
    await outage.finish()
    await asyncio.sleep(2)
    answered = outage.known.answered + outage.stranger.answered
    connection = await asyncpg.connect(f"{cluster.address}/postgres")
    told = await connection.fetch(
        "SELECT requests.id, state FROM requests JOIN kinds ON kinds.id = requests.kind"
    )
    rows = {id_of(row["id"]): row["state"] for row in told}
    await connection.close()
    found = _penstock(environment, "reconcile")
    return {
        "known keys": {phase: dict(count) for phase, count in outage.known.statuses.items()},
        "known keys, slowest answer (s)": {k: round(v, 3) for k, v in outage.known.slowest.items()},
        "unknown keys": {phase: dict(count) for phase, count in outage.stranger.statuses.items()},
        "ready again after (s)": round(ready, 2),
        "last refusal after the return (s)": round(
            max(0.0, max(outage.known.last_refused, outage.stranger.last_refused) - back), 2
        ),
        "answers with 200": len(answered),
        "rows": len(rows),
        "lost": sum(id not in rows for id in answered),
        "doubled": len(answered) - len(set(answered)),
        "rows still open": sum(state != "settled" for state in rows.values()),
        "differences of the day": len(found["differences"]),
    }


def _free_port() -> int:

    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--before", type=float, default=10.0)
    parser.add_argument("--away", type=float, default=60.0)
    parser.add_argument("--after", type=float, default=20.0)
    for name, value in asyncio.run(run(parser.parse_args())).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
