"""An open-loop load with a ledger: every request is written down with its one outcome.

Requests leave by the clock in bursts, whatever became of those before, so that so many are under way at once when
something happens. Each takes a connection that is idle, or a new one; the load looks at the readiness of its servers
as a load balancer does and sends nothing new to one that is not ready. It retries nothing: a request that meets a lost
connection, another status than 200 or a number that is not its model's is a failure in the ledger.
`python -m benchmarks.open_load --ports 8080,8081 --path /x --bodies FILE` runs until SIGTERM or so many requests, and
prints the ledger as lines of JSON: [moment, seconds, what was wrong or null].
"""

import argparse
import asyncio
import gc
import json
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final, cast

import orjson
import uvloop

from benchmarks.load import http_request, read_bodies

READY: Final = b"GET /health/ready HTTP/1.1\r\nhost: bench\r\n\r\n"
READY_SECONDS: Final = 0.1
IDLE_SECONDS: Final = 60.0  # then a connection is not used again: servers close theirs after 75, maybe as we send
DEADLINE: Final = 30.0
_END: Final = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection to a server, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._data = b""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(str(exc or "closed")))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._data += data
        head, end, body = self._data.partition(_END)
        if not end or len(body) < _length(head) or self._answer is None:
            return
        answer, self._answer, self._data = self._answer, None, b""
        if b"connection: close" in head:
            self.closed = True
            self.close()
        if not answer.done():
            answer.set_result((head[9:12], body))

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Status and body of the answer. Raises ConnectionError."""
        assert self._transport is not None, "a connection that was made"
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()


class Server:
    """One server of the load: its idle connections, and whether it is ready."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.ready = True
        self._idle: deque[tuple[float, Connection]] = deque()

    async def take(self) -> Connection:
        """A connection for one request. Raises OSError."""
        while self._idle:
            since, connection = self._idle.pop()
            if not connection.closed and time.monotonic() - since < IDLE_SECONDS:
                return connection
            connection.close()
        _, made = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port)
        return made

    def give(self, connection: Connection) -> None:
        """Take a connection back."""
        if not connection.closed:
            self._idle.append((time.monotonic(), connection))

    async def watch(self) -> None:
        """Look at its readiness again and again."""
        connection: Connection | None = None
        while True:
            try:
                async with asyncio.timeout(1.0):
                    connection = connection if connection is not None and not connection.closed else await self._new()
                    self.ready = (await connection.ask(READY))[0] == b"200"
            except (OSError, TimeoutError):
                self.ready, connection = False, None
            await asyncio.sleep(READY_SECONDS)

    async def _new(self) -> Connection:
        return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port))[1]


class Ledger:
    """The load and what came of it."""

    def __init__(self, servers: list[Server], requests: list[bytes], expected: list[dict[str, float]] | None) -> None:
        self._servers = servers
        self._requests = requests
        self._expected = expected
        self.entries: list[tuple[float, float, str | None]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self.stopping = False

    async def run(self, rate: float, burst: int, count: int) -> None:
        """Send bursts until stopped, or `count` requests were sent; all are answered at the end."""
        watching = [asyncio.create_task(server.watch()) for server in self._servers]
        began, sent = time.monotonic(), 0
        while not self.stopping and sent < count:
            for number in range(sent, sent + burst):
                task = asyncio.create_task(self._one(number))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            sent += burst
            await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
        await asyncio.gather(*self._under_way)
        for task in watching:
            task.cancel()

    async def _one(self, number: int) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(DEADLINE):
                server, connection = await self._connection(number)
                status, body = await connection.ask(self._requests[number % len(self._requests)])
                server.give(connection)
                wrong = self._wrong(number, status, body)
        except (OSError, TimeoutError) as error:
            wrong = f"{type(error).__name__}: {error}"
        self.entries.append((began, time.monotonic() - began, wrong))

    async def _connection(self, number: int) -> tuple[Server, Connection]:
        """From the servers in turn, the ready ones first. Nothing was sent yet, so the next may be tried."""
        turned = self._servers[number % len(self._servers) :] + self._servers[: number % len(self._servers)]
        refused: OSError | None = None
        for server in sorted(turned, key=lambda one: not one.ready):
            try:
                return server, await server.take()
            except OSError as error:
                refused = error
        raise refused or OSError("no server")

    def _wrong(self, number: int, status: bytes, body: bytes) -> str | None:
        if status != b"200":
            return f"{status.decode()}: {body[:200].decode(errors='replace')}"
        if self._expected is None:
            return None
        answer = orjson.loads(body)
        found, release = answer["predictions"][0], str(answer["model"]["release"])
        wanted = self._expected[number % len(self._requests)].get(release)
        return None if found == wanted else f"{found} of release {release} is not {wanted}"


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)


def main() -> None:
    """Run one load and print its ledger."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--expected", type=Path, help="JSON: of each body the first prediction by release")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--burst", type=int, default=16)
    parser.add_argument("--count", type=int, default=1 << 60)
    given = parser.parse_args()
    requests = [http_request(given.path, body) for body in read_bodies(given.bodies)]
    expected = json.loads(given.expected.read_text()) if given.expected else None
    servers = [Server(int(port)) for port in given.ports.split(",")]
    ledger = Ledger(servers, requests, expected)

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, setattr, ledger, "stopping", True)
        await ledger.run(given.rate, given.burst, given.count)

    gc.freeze()
    uvloop.run(run())
    sys.stdout.writelines(f"{json.dumps(entry)}\n" for entry in ledger.entries)


if __name__ == "__main__":
    main()
