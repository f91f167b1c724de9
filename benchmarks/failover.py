"""What it costs to lose a part of a cluster: two gateways and three workers, and tuned Envoy over the same workers.

`python -m benchmarks.failover` runs every case under an open-loop load in bursts of 16 with a ledger; ours and the
rival's flow at the same time, so that they meet the very same losses. `--rounds` kills so many workers, `--only` picks
cases, `--write docs/benchmarks.md` replaces the table there. Of each case: requests, failures, and the worst answer
within the three seconds after each loss (median and maximum over losses).
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import fleet
from benchmarks.control import Control
from benchmarks.front import front
from benchmarks.ledger import LEFT, Asked, Entry, entries
from benchmarks.machine import Theft, machine
from benchmarks.payloads import single, write_lines
from benchmarks.processes import load
from benchmarks.report import Figure, as_text, say, write_into
from deploy.local.house import House
from deploy.local.programs import Program

MODELS: Final = 1000
BURST: Final = 16
SHARE: Final = 0.3  # of the capacity
BEFORE_SECONDS: Final = 0.1  # what left so long before a loss may be under way in it
AFTER_SECONDS: Final = 3.0
AWAY_SECONDS: Final = 60.0
FLIPS: Final = 50
CHANGED: Final = range(0, 1000, 7)  # numbers of models that the second release replaced
NOTABLE: Final = 0.02  # share of the processors' time that went to other machines
MOST_MS: Final = {"kill": 100.0, "hang": 500.0}
SERVERS: Final = frozenset({"consul", "postgres", "bucket"})
PATH: Final = f"/v1/groups/{fleet.GROUP}/predict"


@dataclass
class Book:
    """The ledger of one load: when each request left, how long it took, and what was wrong."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """What was wrong, where something was."""
        return [entry.wrong for entry in self.entries if entry.wrong is not None]

    def hit(self, moments: Sequence[float]) -> int:
        """After how many of these losses something failed."""
        return sum(any(one.wrong is not None for one in self._around(moment)) for moment in moments)

    def worst_after(self, moments: Sequence[float]) -> list[float]:
        """The longest answer, in seconds, to what left around each moment."""
        return [max((one.took for one in self._around(moment)), default=0.0) for moment in moments]

    def seconds_of_failure(self) -> list[int]:
        """The seconds, from the first request on, in which what failed left."""
        return sorted({int(one.at - self.entries[0].at) for one in self.entries if one.wrong is not None})

    def _around(self, moment: float) -> Sequence[Entry]:
        first = bisect_left(self.entries, moment - BEFORE_SECONDS, key=LEFT)
        return self.entries[first : bisect_left(self.entries, moment + AFTER_SECONDS, key=LEFT)]


class Loads:
    """Ours and the rival's load, side by side."""

    def __init__(self, bodies: Path, ports: Mapping[str, Sequence[int]], rate: float, expected: Path) -> None:
        self._bodies = bodies
        self._ports, self._rate, self._expected = ports, rate, expected

    @contextmanager
    def flowing(self) -> Iterator[dict[str, Book]]:
        """Both loads; their books are filled when the context is left."""
        books = {name: Book() for name in self._ports}
        rate = self._rate / len(self._ports)
        running = {name: self._start(ports, rate) for name, ports in self._ports.items()}
        try:
            time.sleep(1.0)
            yield books
        finally:
            for name, process in running.items():
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=600)
                books[name].entries = entries(said)

    def _start(self, ports: Sequence[int], rate: float) -> "subprocess.Popen[str]":
        asked = Asked(ports, PATH, self._bodies, self._expected)
        command = [sys.executable, "-m", "benchmarks.open_load", *asked.arguments(rate, BURST)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class Cases:
    """The cases; each answers the moments of its losses."""

    def __init__(self, house: House, rounds: int, seconds: float) -> None:
        """`rounds` of kills; restarts go on for `seconds` at least."""
        self._house = house
        self._rounds = rounds
        self._seconds = seconds
        self._random = random.Random(2026)
        self._workers = house.of("worker")
        self._gateways = house.of("gateway")

    def kill(self) -> list[float]:
        """`kill -9` of a worker."""
        return [self._lose(Program.kill, Program.start) for _ in range(self._rounds)]

    def hang(self) -> list[float]:
        """A worker is stopped where it stands."""
        return [self._lose(Program.freeze, Program.thaw) for _ in range(max(2, self._rounds // 10))]

    def restart(self) -> list[float]:
        """Everything is restarted, one service after another, again and again."""
        moments: list[float] = []
        end = time.monotonic() + self._seconds
        while not moments or time.monotonic() < end:
            for service in [*self._workers, *self._gateways, *self._house.of("discovery"), *self._house.of("builder")]:
                moments.append(time.monotonic())
                service.stop()
                service.start()
                self._settle()
        return moments

    def away(self, name: str) -> list[float]:
        """A server that the cluster stands on is killed, and comes back after a while."""
        began = time.monotonic()
        self._house[name].kill()
        time.sleep(AWAY_SECONDS)
        self._house[name].start()
        time.sleep(5.0)
        return [began]

    def flips(self) -> list[float]:
        """A promotion and a rollback, again and again."""
        moments = []
        control = Control(self._gateways[0].port)
        for number in range(FLIPS):
            control.promote(1 + (number + 1) % 2)
            moments.append(time.monotonic())
        return moments

    def _lose(self, lose: Callable[[Program], None], regain: Callable[[Program], None]) -> float:
        worker = self._random.choice(self._workers)
        time.sleep(self._random.uniform(0.0, 0.5))
        moment = time.monotonic()
        lose(worker)
        time.sleep(1.0)
        regain(worker)
        self._settle()
        return moment

    def _settle(self) -> None:
        """Wait until every worker and gateway is ready again, and a little longer."""
        for service in [*self._workers, *self._gateways]:
            Control(service.port).ready()
        time.sleep(1.0)


def prepared(house: House, folder: Path) -> tuple[Path, Path]:
    """A fleet with two releases, of which the first is live; bodies, and what each answers by release."""
    control = Control(house.of("gateway")[0].port)
    control.create_group(auto_release=False)
    control.call("PUT", f"{control.path}/placement", {"replicas": 3})  # Envoy asks any worker: all hold everything
    parquet = folder / "fleet.parquet"
    fleet.write_fleet(parquet, MODELS)
    control.import_file(parquet)
    control.release()
    control.promote(1)
    control.until_live(fleet.keys(1)[0])
    for number in CHANGED:
        control.register(fleet.key_of(number), fleet.model_text(fleet.UNUSED + number))
    control.release()
    table = fleet.rows(MODELS)
    bodies = [json.dumps(single(fleet.key_of(number), table[number].tolist())).encode() for number in range(MODELS)]
    first = [_answer(number, table[number]) for number in range(MODELS)]
    second = [_answer(fleet.UNUSED + n, table[n]) if n in CHANGED else first[n] for n in range(MODELS)]
    expected = folder / "expected.json"
    expected.write_text(json.dumps([{"1": one, "2": other} for one, other in zip(first, second, strict=True)]))
    return write_lines(folder / "single.jsonl", bodies), expected


def _answer(number: int, row: NDArray[np.float64]) -> float:
    return float(fleet.booster(number).predict(row[None], num_threads=1)[0])


def figures(name: str, books: Mapping[str, Book], moments: Sequence[float], stolen: float) -> list[Figure]:
    """What a case came to, ours and the rival's; `stolen` is the share of its processors that the machine lacked."""
    worst = {who: [1000 * one for one in book.worst_after(moments)] for who, book in books.items()}
    said = {
        who: f"{len(book.failures)} of {len(book.entries):,} failed, after {book.hit(moments)} losses, worst answer "
        f"{statistics.median(worst[who]):.0f} ms in the median loss, {max(worst[who]):.0f} ms at most"
        for who, book in books.items()
    }
    for who, book in books.items():
        for wrong, count in Counter(one.partition(',"request_id"')[0] for one in book.failures).most_common(5):
            say(f"  {who}: {count} x {wrong[:200]}")
        if book.failures:
            say(f"  {who}: they left at {book.seconds_of_failure()} s")
    beside = f"{len(moments)} losses: {said['ours']}; tuned Envoy over the same workers: {said['envoy']}"
    if stolen >= NOTABLE:
        beside += f"; {stolen:.0%} of the processors' time went to other machines"
    median = statistics.median(worst["ours"])
    return [
        Figure(f"{name}: failed requests", len(books["ours"].failures), "failed", beside, most=0),
        Figure(f"{name}: worst answer, median loss", median, "ms", most=MOST_MS.get(name)),
    ]


def main() -> None:
    """Run the cases and print their figures."""
    names = ("kill", "hang", "restart", "consul", "postgres", "bucket", "flips")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--requests", type=int, default=100_000, help="at least, while everything is restarted")
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table of this document")
    given = parser.parse_args()
    for fact in machine():
        say(fact)
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="manymodels-bench-") as root, House(Path(root)) as house:
        folder = Path(root)
        bodies, expected = prepared(house, folder)
        gateways = [gateway.port for gateway in house.of("gateway")]
        with front(folder, [worker.port for worker in house.of("worker")]) as port:
            for name in given.only:  # each at its own load: how fast a machine is that others share changes in minutes
                capacity = load(gateways[0], PATH, bodies, "--connections", "64", "--seconds", "3").rate
                say(f"{name}: a gateway takes {capacity:,.0f} requests/s, loads are {SHARE:.0%} of that")
                loads = Loads(bodies, {"ours": gateways, "envoy": [port]}, SHARE * capacity, expected)
                cases = Cases(house, given.rounds, 2 * given.requests / (SHARE * capacity))
                theft = Theft()
                with loads.flowing() as books:
                    moments = cases.away(name) if name in SERVERS else getattr(cases, name)()
                found += figures(name, books, moments, theft.share)
                say(as_text(found[-2:]))
    if given.write is not None:
        write_into(given.write, "benchmarks.failover", found)


if __name__ == "__main__":
    main()
