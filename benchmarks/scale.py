"""Ten million models over a thousand workers in three zones: who holds what, and what moves when one comes or goes.

`python -m benchmarks.scale --write docs/benchmarks.md`. Nothing is served: the assignment is computed as discovery is
to compute it, beside plain rendezvous hashing and a hash ring with a hundred points a worker, which remember nothing
and know no bound.
"""

import argparse
import random
import time
import zlib
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import orjson

from benchmarks.machine import machine
from benchmarks.report import Figure, as_text, say, spread, write_into
from discovery.assignment import Assignment, Demand, Seat, assign, hash64, loads, moved, weighted_scores
from registry.keys import KeySchema, key_id, shard_of

MODELS: Final = 10_000_000
MODEL_BYTES: Final = 17_900
SEGMENT_BYTES: Final = 16 << 20
GROUPS: Final = 10
WORKERS: Final = 1_000
ZONES: Final = 3
REPLICAS: Final = 2
CHANGES: Final = 12
POINTS: Final = 100
LOOKUPS: Final = 50_000

Place = Callable[[Assignment, Sequence[Seat], Sequence[Demand]], Assignment]


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table of this document")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything; the figures mean little")
    given = parser.parse_args()
    for fact in machine():
        say(fact)
    figures = scale(models=MODELS // 10, workers=WORKERS // 10) if given.quick else scale()
    say(as_text(figures))
    if given.write:
        write_into(given.write, "benchmarks.scale", figures)


def scale(models: int = MODELS, workers: int = WORKERS) -> list[Figure]:
    """All figures."""
    seats = [_seat(number) for number in range(workers)]
    shards = -(-models * MODEL_BYTES // SEGMENT_BYTES // GROUPS)
    demands = [Demand(f"g{group}/{shards}/{shard}", REPLICAS) for group in range(GROUPS) for shard in range(shards)]
    mean = len(demands) * REPLICAS / workers
    say(f"{len(demands):,} shards, {mean:.1f} replicas a worker")
    began = time.perf_counter()
    first = assign({}, seats, demands)
    taken = time.perf_counter() - began
    figures = [
        Figure("assigned from nothing", taken, "s", f"{len(demands):,} shards x {REPLICAS}, {workers:,} workers")
    ]
    for name, place in (("assignment", assign), ("rendezvous", rendezvous), ("hash ring", ring)):
        start = first if place is assign else place({}, seats, demands)
        figures += _figures(name, place, start, seats, demands, asked=place is assign)
    return [*figures, *_lookups(first, shards), *_sizes(first)]


def rendezvous(_before: Assignment, seats: Sequence[Seat], demands: Sequence[Demand]) -> dict[str, tuple[str, ...]]:
    """The seats of the highest scores, whatever they hold already and wherever they are."""
    hashes = np.array([hash64(seat.name) for seat in seats], dtype=np.uint64)
    made = {}
    for demand in demands:
        scores = weighted_scores(hashes, 1.0, hash64(demand.shard))
        best = np.argpartition(-scores, demand.replicas)[: demand.replicas].tolist()
        made[demand.shard] = tuple(seats[at].name for at in best)
    return made


def ring(_before: Assignment, seats: Sequence[Seat], demands: Sequence[Demand]) -> dict[str, tuple[str, ...]]:
    """The next distinct seats clockwise (Karger and others, 1997)."""
    points = sorted((hash64(f"{seat.name}#{point}"), seat.name) for seat in seats for point in range(POINTS))
    places = [place for place, _ in points]
    made = {}
    for demand in demands:
        at = bisect(places, hash64(demand.shard))
        found: dict[str, None] = {}
        while len(found) < demand.replicas:
            found[points[at % len(points)][1]] = None
            at += 1
        made[demand.shard] = tuple(found)
    return made


def _figures(
    name: str, place: Place, start: Assignment, seats: Sequence[Seat], demands: Sequence[Demand], *, asked: bool
) -> list[Figure]:
    """How evenly a way spreads shards, and how many it moves as workers come and go one after another."""
    rng = random.Random(7)
    now, there = start, list(seats)
    joined, left, most, seconds = [], [], [_most(start, there)], []
    for change in range(CHANGES):
        before, held = now, loads(now, [seat.name for seat in there])
        if change % 2:
            gone = there.pop(rng.randrange(len(there)))
        else:
            there.append(_seat(len(seats) + change))
        began = time.perf_counter()
        now = place(before, there, demands)
        seconds.append(time.perf_counter() - began)
        most.append(_most(now, there))
        if change % 2:
            left.append(moved(before, now) / held[gone.name])
        else:
            joined.append(moved(before, now) / (len(demands) * REPLICAS / len(there)))
    bound, ideal = (1.25, 1.05) if asked else (None, None)
    return [
        Figure(f"{name}: most loaded worker over the mean", max(most), "x", spread(most, "x", 2), most=bound),
        Figure(
            f"{name}: moved when a worker joins, over its share", max(joined), "x", spread(joined, "x", 2), most=ideal
        ),
        Figure(
            f"{name}: moved when a worker leaves, over what it held", max(left), "x", spread(left, "x", 2), most=ideal
        ),
        Figure(f"{name}: computed anew after a change", median(seconds), "s", spread(seconds, "s", 2)),
        Figure(f"{name}: shards with both replicas in one zone", _together(now, there), "shards"),
    ]


def _lookups(assignment: Assignment, shards: int) -> list[Figure]:
    """From a key's values to the workers that hold it."""
    schema = KeySchema(("store", "sku"))
    keys = [(str(number % 997), f"sku-{number}") for number in range(LOOKUPS)]
    began = time.perf_counter()
    for values in keys:
        identity = key_id(schema.text_at(values, 0))
        assignment[f"g{len(values[1]) % GROUPS}/{shards}/{shard_of(schema.slot_at(values, identity), shards)}"]
    taken = time.perf_counter() - began
    return [Figure("lookups, from a key to its workers", LOOKUPS / taken, "lookups/s")]


def _sizes(assignment: Mapping[str, tuple[str, ...]]) -> list[Figure]:
    """Bytes of an assignment as a snapshot would carry it."""
    names = sorted({name for seats in assignment.values() for name in seats})
    numbers = {name: number for number, name in enumerate(names)}
    text = orjson.dumps([names, {shard: [numbers[name] for name in seats] for shard, seats in assignment.items()}])
    packed = len(zlib.compress(text))
    return [Figure("an assignment as JSON", len(text) / 1000, "KB", f"{packed / 1000:,.0f} KB compressed")]


def _seat(number: int) -> Seat:
    return Seat(f"worker-{number}", zone=f"z{number % ZONES}")


def _most(assignment: Assignment, seats: Sequence[Seat]) -> float:
    held = loads(assignment, [seat.name for seat in seats])
    return max(held.values()) * len(seats) / sum(held.values())


def _together(assignment: Assignment, seats: Sequence[Seat]) -> int:
    zones = {seat.name: seat.zone for seat in seats}
    return sum(len({zones[name] for name in held}) < len(held) for held in assignment.values())


if __name__ == "__main__":
    main()
