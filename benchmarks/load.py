"""A closed-loop HTTP/1.1 load generator, lean enough that the server is what is measured.

Every connection sends its next request when its answer is complete. Requests are whole bytes made beforehand and
taken in turn; of an answer only its status and its content-length are read. It runs as a process of its own, pinned
to a core that no measured server uses: `python -m benchmarks.load --port 8080 --path /x --bodies FILE`.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Final, cast

import numpy as np
import uvloop

JSON: Final = "application/json"
ARROW: Final = "application/vnd.apache.arrow.stream"
_LENGTH: Final = b"content-length: "
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Load:
    """What one run measured.

    Attributes:
        requests: answered in the measured time.
        seconds: measured time.
        rate: requests a second.
        p50, p99: microseconds from a request to its complete answer.
        busy: CPU time of this process over the measured time; near 1, the load itself would be the limit.
    """

    requests: int
    seconds: float
    rate: float
    p50: float
    p99: float
    busy: float


class _Run:
    """Requests to send, and what was measured. Lives on one event loop."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.requests = requests
        self.times = array("d")
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open = 0
        self._started = perf_counter()
        self._cpu = 0.0

    def begin(self) -> None:
        """Forget the warm-up; what is answered from here on counts."""
        self.times = array("d")
        self._cpu = _cpu_seconds()
        self._started = perf_counter()

    def end(self, error: Exception | None = None) -> None:
        """Stop, with or without an error."""
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)

    def measured(self) -> Load:
        """The figures, right after the end."""
        seconds = perf_counter() - self._started
        p50, p99 = np.percentile(np.frombuffer(self.times), (50, 99)) * 1e6
        busy = (_cpu_seconds() - self._cpu) / seconds
        return Load(len(self.times), seconds, len(self.times) / seconds, float(p50), float(p99), busy)


class _Connection(asyncio.Protocol):
    """One connection: one request under way at any time."""

    __slots__ = ("_missing", "_pending", "_run", "_sent", "_transport")

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._pending = b""  # an answer's head, as far as it came
        self._missing = 0  # bytes of an answer's body that are still to come
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._run.open += 1
        self._sent = perf_counter()
        self._next()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            data = self._pending + data if self._pending else data
            end = data.find(_END)
            if end < 0:
                self._pending = data
                return
            self._pending = b""
            if data[9:12] != b"200":
                self._run.end(RuntimeError(f"answered {data[:1000]!r}"))
                return
            self._missing = end + len(_END) + self._length(data, end) - len(data)
        if not self._missing:
            now = perf_counter()
            self._run.times.append(now - self._sent)
            self._sent = now
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.end(exc or RuntimeError("the server closed a connection"))

    def _next(self) -> None:
        request = next(self._run.requests, None)
        if request is not None:
            self._transport.write(request)
            return
        self._run.open -= 1
        if not self._run.open:
            self._run.end()

    @staticmethod
    def _length(data: bytes, end: int) -> int:
        at = data.find(_LENGTH, 0, end) + len(_LENGTH)
        return int(data[at : data.find(b"\r", at)])


def http_request(path: str, body: bytes, media_type: str = JSON) -> bytes:
    """The bytes of one request."""
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_bodies(path: Path, media_type: str = JSON) -> list[bytes]:
    """The bodies of a file: JSON stands one a line, anything else is one body."""
    data = path.read_bytes()
    return data.splitlines() if media_type == JSON else [data]


async def run_load(
    port: int, requests: list[bytes], *, connections: int, warm: float, seconds: float, count: int | None = None
) -> Load:
    """Load a server for `seconds` after `warm` seconds, or with exactly `count` requests and no warm-up.

    Raises:
        RuntimeError: if any answer is not a 200, or a connection is closed.
    """
    loop = asyncio.get_running_loop()
    run = _Run(cycle(requests) if count is None else islice(cycle(requests), count))
    transports = [
        (await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port))[0] for _ in range(connections)
    ]
    if count is None:
        loop.call_later(warm, run.begin)
        loop.call_later(warm + seconds, run.end)
    await run.done
    load = run.measured()
    for transport in transports:
        transport.abort()
    return load


def main() -> None:
    """Run one load and print its figures as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="one JSON body a line, or one body of another type")
    parser.add_argument("--media-type", default=JSON)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--warm", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--count", type=int, help="exactly so many requests, without warm-up")
    parser.add_argument("--skip", type=int, default=0, help="start at this body")
    parser.add_argument("--core", type=int)
    parser.add_argument("--meek", action="store_true", help="run only while nobody else wants the core")
    given = parser.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    if given.meek:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    bodies = read_bodies(given.bodies, given.media_type)
    turned = bodies[given.skip :] + bodies[: given.skip]
    requests = [http_request(given.path, body, given.media_type) for body in turned]
    gc.freeze()
    gc.disable()
    load = uvloop.run(
        run_load(
            given.port,
            requests,
            connections=given.connections,
            warm=given.warm,
            seconds=given.seconds,
            count=given.count,
        )
    )
    sys.stdout.write(json.dumps(asdict(load)) + "\n")


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    main()
