"""From the start of our server's process to its first right answer, over homes of any size.

The clock starts before the process does and stops when an answer equals the native library's to the last bit. Once
the home's files lie in the kernel's page cache, as after a restart of the server; once they do not, as after a restart
of the machine.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import orjson

from benchmarks.control import Control, until
from benchmarks.fleet import booster, key_of, rows
from benchmarks.footprint import forget_files
from benchmarks.payloads import PREDICT, single
from benchmarks.processes import Served, house


@dataclass(frozen=True)
class Start:
    """Seconds to the first right answer."""

    cached: float
    uncached: float


@contextmanager
def started(home: Path, number: int) -> Iterator[tuple[Served, float]]:
    """Our server over a home that holds this model of the fleet, and the seconds until that answered rightly."""
    row = rows(1, seed=number)
    expected = float(booster(number).predict(row, num_threads=1)[0])
    body = orjson.dumps(single(key_of(number), row[0].tolist()))
    begun = time.perf_counter()
    with house(home) as served:
        control = Control(served.port)

        def right() -> bool:
            status, answer = control.ask("POST", PREDICT, body, {"content-type": "application/json"})
            return status == 200 and orjson.loads(answer)["predictions"] == [expected]

        until(right, "answering")
        yield served, time.perf_counter() - begun


def measure_start(home: Path, models: int, *, times: int) -> Start:
    """Medians of a few starts each way, in turn, each asking another model."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(times):
        for cached in (False, True):
            if not cached:
                forget_files(home)
            with started(home, (turn * 7919) % models) as (_, taken):
                seconds[cached].append(taken)
    return Start(cached=median(seconds[True]), uncached=median(seconds[False]))
