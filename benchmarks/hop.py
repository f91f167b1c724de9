"""What the hop between gateway and worker costs, beside the same worker asked directly.

`python -m benchmarks.hop` runs one gateway and one worker over real PostgreSQL, Consul and S3, both on one core, and
asks for the same predicts through the gateway and at the worker itself, which answers them as a whole house of one
process does. It also compares our client of the hop with aiohttp, each asking the worker for the same frame.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import aiohttp
import uvloop

from benchmarks import fleet, payloads
from benchmarks.control import Control
from benchmarks.machine import LOAD_CORE, SERVER_CORE, machine
from benchmarks.processes import load, place, tree
from benchmarks.report import Figure, as_text, say, spread, write_into
from deploy.local.house import House, Kind, Service
from gateway.upstream.connection import open_connection
from workers.client import ScoreCall
from workers.features import Features
from workers.hop.frames import call_frame
from workers.hop.routes import NOW

MODELS: Final = 1000
ROUNDS: Final = 15  # short ones in turn: how fast a core is changes within seconds where others share it
SERVICES: Final = (Kind("discovery", 1), Kind("worker", 1), Kind("builder", 1, listens=False), Kind("gateway", 1))
PATH: Final = f"/v1/groups/{fleet.GROUP}/predict"
TICK: Final = os.sysconf("SC_CLK_TCK")
ASKED: Final = 4000  # frames that a client asks for
TOGETHER: Final = 16


@dataclass(frozen=True)
class Measured:
    """One load: requests a second, p50 in microseconds, and processor microseconds of all services a request."""

    rate: float
    p50: float
    cpu: float


class Pair:
    """The gateway and the worker, on one core."""

    def __init__(self, house: House, bodies: Path, bulks: Path) -> None:
        self.worker, self.gateway = house.of("worker")[0], house.of("gateway")[0]
        self._bodies, self._bulks = bodies, bulks
        self._processes = [pid for one in (self.worker, self.gateway) for pid in tree(one.pid)]
        for pid in self._processes:
            place(pid, SERVER_CORE)

    def measure(self, service: Service, connections: int, seconds: float, *, bulk: bool = False) -> Measured:
        """Load one of them."""
        path, bodies = (f"{PATH}/bulk", self._bulks) if bulk else (PATH, self._bodies)
        options = ("--connections", str(connections), "--seconds", str(seconds), "--warm", "0")
        load(service.port, path, bodies, *options[:3], "0.5", *options[4:])
        before = self._used()
        found = load(service.port, path, bodies, *options)
        return Measured(found.rate, found.p50, 1e6 * (self._used() - before) / found.requests)

    def _used(self) -> float:
        return sum(_processor(pid) for pid in self._processes)


def hop_figures(pair: Pair, seconds: float) -> list[Figure]:
    """Through the gateway beside directly, in turn."""
    found = []
    for what, connections, bulk in (("64 connections", 64, False), ("one connection", 1, False), ("bulks", 4, True)):
        direct, through = [], []
        for _ in range(ROUNDS):
            direct.append(pair.measure(pair.worker, connections, seconds, bulk=bulk))
            through.append(pair.measure(pair.gateway, connections, seconds, bulk=bulk))
        ratio = median(one.cpu / other.cpu for one, other in zip(direct, through, strict=True))
        beside = (
            f"{spread([one.cpu for one in through], 'us')} of processor a request through the gateway, "
            f"{spread([one.cpu for one in direct], 'us')} directly"
        )
        least = 0.5 if connections == 64 else None
        found.append(Figure(f"{what}: requests a processor-second, hop over direct", ratio, "x", beside, least=least))
        if connections == 1:
            added = [(other.p50 - one.p50) / 1000 for one, other in zip(direct, through, strict=True)]
            through_p50, direct_p50 = ([one.p50 for one in side] for side in (through, direct))
            p50s = f"p50 {spread(through_p50, 'us')}, {spread(direct_p50, 'us')} directly"
            found.append(Figure(f"{what}: p50 that the hop adds", median(added), "ms", p50s, most=0.35))
    return found


async def client_figure(port: int) -> Figure:
    """Processor time of a client for one frame, ours and aiohttp's, in turn."""
    row = Features(None, cells=fleet.rows(1)[0].tolist())
    frame = call_frame(ScoreCall(fleet.GROUP, 1, (fleet.key_of(0),), None, row, 0, frozenset()))
    ours, theirs = [], []
    async with aiohttp.ClientSession() as session:

        async def by_aiohttp() -> None:
            async with session.post(f"http://127.0.0.1:{port}{NOW.decode()}", data=frame) as answer:
                assert answer.status == 200
                await answer.read()

        connections = [await open_connection("127.0.0.1", port, 5.0, lambda _: None) for _ in range(TOGETHER)]
        free = list(connections)

        async def by_ours() -> None:
            connection = free.pop()
            status, _ = await connection.request(NOW, frame)
            assert status == 200
            free.append(connection)

        for _ in range(ROUNDS):
            ours.append(await _processor_each(by_ours))
            theirs.append(await _processor_each(by_aiohttp))
        for connection in connections:
            connection.give_up("measured")
    ratio = median(one / other for one, other in zip(theirs, ours, strict=True))
    beside = f"{spread(ours, 'us')} of processor a call, aiohttp {aiohttp.__version__} {spread(theirs, 'us')}"
    return Figure("client of the hop: aiohttp's processor time over ours", ratio, "x", beside)


async def _processor_each(ask: Callable[[], Awaitable[None]]) -> float:
    """Microseconds of this process's processor time a call."""

    async def some() -> None:
        for _ in range(ASKED // TOGETHER):
            await ask()

    began = time.process_time()
    await asyncio.gather(*(some() for _ in range(TOGETHER)))
    return 1e6 * (time.process_time() - began) / ASKED


def _processor(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def measured(seconds: float) -> Sequence[Figure]:
    """Start the pair, give it a fleet, and measure."""
    with tempfile.TemporaryDirectory(prefix="manymodels-bench-") as root:
        folder = Path(root)
        with House(folder, services=SERVICES) as house:
            control = Control(house.of("gateway")[0].port)
            control.create_group()
            fleet.write_fleet(folder / "fleet.parquet", MODELS)
            control.import_fleet(folder / "fleet.parquet")
            house["builder-1"].stop()
            bodies = payloads.write_lines(folder / "single.jsonl", payloads.singles(MODELS, 2000))
            bulks = payloads.write_lines(folder / "bulk.jsonl", payloads.bulks(MODELS))
            found = hop_figures(Pair(house, bodies, bulks), seconds)
            os.sched_setaffinity(0, {LOAD_CORE})
            return [*found, uvloop.run(client_figure(house.of("worker")[0].port))]


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hop", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each load")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table of this document")
    given = parser.parse_args()
    for fact in machine():
        say(fact)
    figures = measured(given.seconds)
    say(as_text(figures))
    if given.write is not None:
        write_into(given.write, "benchmarks.hop", figures)


if __name__ == "__main__":
    main()
