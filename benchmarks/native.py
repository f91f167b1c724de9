"""What a user has without a server: a loop of `Booster.predict` with one thread over the rows of the bulks.

The boosters are loaded and the rows are arrays before the clock starts, so that nothing but the library is timed.
"""

import argparse
import json
import os
import sys
from itertools import cycle
from pathlib import Path
from time import perf_counter

import numpy as np
import orjson

from benchmarks.fleet import keys, read_boosters
from benchmarks.machine import SERVER_CORE
from benchmarks.processes import run


def loop_rate(parquet: Path, bodies: Path, models: int, seconds: float) -> float:
    """Rows a second of the loop, in a process of its own on the servers' core."""
    given = ["--fleet", str(parquet), "--bodies", str(bodies), "--models", str(models), "--seconds", str(seconds)]
    rate: float = json.loads(run("native", given))["rate"]
    return rate


def _measure(parquet: Path, bodies: Path, models: int, seconds: float) -> float:
    boosters = dict(zip(keys(models), read_boosters(parquet, models), strict=True))
    work = [
        (boosters[row[0], row[1]].predict, np.array([row[2:]], dtype=np.float64))
        for body in bodies.read_bytes().splitlines()
        for row in orjson.loads(body)["data"]
    ]
    for predict, row in work[: len(work) // 4]:
        predict(row, num_threads=1)
    done = 0
    started = perf_counter()
    for predict, row in cycle(work):
        predict(row, num_threads=1)
        done += 1
        if done % 256 == 0 and perf_counter() - started > seconds:
            break
    return done / (perf_counter() - started)


def main() -> None:
    """Run the loop and print its rate as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleet", type=Path, required=True)
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--models", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    os.sched_setaffinity(0, {SERVER_CORE})
    rate = _measure(given.fleet, given.bodies, given.models, given.seconds)
    sys.stdout.write(json.dumps({"rate": rate}) + "\n")


if __name__ == "__main__":
    main()
