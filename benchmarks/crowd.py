"""Single predicts at a steady pace, alone or while another client sends the largest bulks one after another.

A client that waits for each answer before it sends the next request would meet a long wait once and then count many
short ones; so requests fall due at fixed times, over many connections, and where a connection is still waiting when
its next request falls due, the wait counts from then. The other client runs only while this one leaves the core idle.
`python -m benchmarks.crowd --port 8080 --path /x --bodies FILE --seconds 10` prints one line of JSON.
"""

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count, cycle
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import uvloop

from benchmarks.load import JSON, http_request, read_bodies
from benchmarks.machine import LOAD_CORE
from benchmarks.processes import ROOT, run

EVERY_SECONDS: Final = 0.004
CONNECTIONS: Final = 32
WARM_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Milliseconds from when a request was due, or was sent where nothing held it up, to its answer."""

    requests: int
    p50: float
    p99: float
    worst: float


def paced(port: int, path: str, bodies: Path, seconds: float) -> Pace:
    """Measure in a process of its own, on the core of the load."""
    given = ["--port", str(port), "--path", path, "--bodies", str(bodies), "--seconds", str(seconds)]
    return Pace(**json.loads(run("crowd", given)))


@contextmanager
def crowded(port: int, path: str, bodies: Path, media_type: str) -> Iterator[None]:
    """Another client beside: one connection, bulks back to back, until the context is left.

    Raises:
        RuntimeError: if it ended before.
    """
    given = ["--port", str(port), "--path", path, "--bodies", str(bodies), "--media-type", media_type]
    command = [sys.executable, "-m", "benchmarks.load", *given, "--connections", "1", "--core", str(LOAD_CORE)]
    process = subprocess.Popen([*command, "--meek", "--seconds", "3600"], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the crowd ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()


async def run_paced(port: int, requests: list[bytes], seconds: float) -> Pace:
    """Send requests at the pace for so long, after a warm-up."""
    begun = perf_counter() + WARM_SECONDS
    turns = iter(cycle(requests))
    times = array("d")
    period = EVERY_SECONDS * CONNECTIONS
    async with asyncio.timeout(seconds + 60):
        await asyncio.gather(
            *(
                _connection(port, turns, times, begun + slot * EVERY_SECONDS, period, begun + seconds)
                for slot in range(CONNECTIONS)
            )
        )
    found = np.frombuffer(times) * 1000
    p50, p99 = np.percentile(found, (50, 99))
    return Pace(len(found), float(p50), float(p99), float(found.max()))


async def _connection(
    port: int, turns: Iterator[bytes], times: "array[float]", first: float, period: float, end: float
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in count():
        due = first + number * period
        if due >= end:
            break
        late = perf_counter() > due
        if not late:
            await asyncio.sleep(due - perf_counter())
        sent = perf_counter()
        writer.write(next(turns))
        head = await reader.readuntil(b"\r\n\r\n")
        if head[9:12] != b"200":
            raise RuntimeError(f"answered {head!r}")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
        await reader.readexactly(length)
        times.append(perf_counter() - (due if late else sent))
    writer.close()


def main() -> None:
    """Send at the pace and print what was measured as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="one JSON body a line")
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    requests = [http_request(given.path, body, JSON) for body in read_bodies(given.bodies)]
    gc.freeze()
    gc.disable()
    pace = uvloop.run(run_paced(given.port, requests, given.seconds))
    sys.stdout.write(json.dumps(asdict(pace)) + "\n")


if __name__ == "__main__":
    main()
