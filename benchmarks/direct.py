"""One predict without HTTP and JSON: calls of the worker as the gateway makes them, over an unserved home.

Calls are read from request bodies by the gateway's own reader, each with its own key; then only the crossing of the
seam between gateway and worker is timed, call by call: resolving the key, finding the model, scoring. The first pass
meets every model for the first time in this process; those after it are what a server that runs for a while does.
Prints one line of JSON: `python -m benchmarks.direct --home HOME --bodies FILE`.
"""

import argparse
import asyncio
import gc
import json
import sys
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.fleet import GROUP
from benchmarks.load import read_bodies
from benchmarks.processes import run
from benchmarks.unserved import unserved

if TYPE_CHECKING:
    from gateway.context import Context
    from workers.client import ScoreCall

SAMPLES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Direct:
    """Microseconds of one predict: in the pass that meets each model first, and in those after it."""

    first_p50: float
    first_p99: float
    p50: float
    p99: float


def direct(home: Path, bodies: Path, *, timeout: float) -> Direct:
    """Measure in a process of its own."""
    said = run("direct", ["--home", str(home), "--bodies", str(bodies)], timeout=timeout)
    return Direct(**json.loads(said))


def _calls(context: "Context", bodies: list[bytes]) -> "list[ScoreCall]":
    from gateway.data.rows import RowReader
    from gateway.data.single import read_call

    snapshot = context.watcher.current
    assert snapshot is not None
    view = snapshot.groups[GROUP]
    reader = RowReader(view.signature)
    return [read_call(view, reader, body, 1)[0] for body in bodies]


async def _pass(context: "Context", bodies: list[bytes]) -> "array[int]":
    """Nanoseconds of each body's call, each read anew: a call remembers what was made of its rows."""
    calls = _calls(context, bodies)
    gc.collect()
    gc.freeze()
    worker = context.worker
    times = array("q")
    for call in calls:
        begun = perf_counter_ns()
        answer = worker.score_now(call) or await worker.score(call)
        times.append(perf_counter_ns() - begun)
        if answer.problems:
            raise RuntimeError(f"{call.keys[0]}: {answer.problems[0]}")
    gc.unfreeze()
    return times


async def _passes(context: "Context", bodies: list[bytes]) -> Direct:
    first = await _pass(context, bodies)
    again = array("q")
    while len(again) < SAMPLES:
        again += await _pass(context, bodies)
    return Direct(*_percentiles(first), *_percentiles(again))


def _percentiles(times: "array[int]") -> tuple[float, float]:
    p50, p99 = np.percentile(np.frombuffer(times, dtype=np.int64), (50, 99)) / 1000
    return float(p50), float(p99)


def main() -> None:
    """Measure one home."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="one JSON body a line")
    given = parser.parse_args()
    with unserved(given.home) as context:
        measured = asyncio.run(_passes(context, read_bodies(given.bodies)))
    sys.stdout.write(json.dumps(asdict(measured)) + "\n")


if __name__ == "__main__":
    main()
