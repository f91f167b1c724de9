"""Bulks: many models in one request, beside what else a user could run, and what they cost those who ask for one row.

`python -m benchmarks.bulk --write docs/benchmarks.md` makes fleets of 1,000 and 10,000 models; `--home DIR` takes the
home of `benchmarks.density` in besides. The rivals always hold the smallest fleet, which is all they need to do their
best: a loop of `Booster.predict`, and FastAPI over warm onnxruntime sessions.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from benchmarks import payloads
from benchmarks.arguments import arguments
from benchmarks.arrow_bulk import arrow_figures
from benchmarks.bulk_report import Rounds, draw, json_figures
from benchmarks.control import Control
from benchmarks.crowding import crowd_figures
from benchmarks.fleet import GROUP, booster, keys, write_fleet
from benchmarks.machine import LOAD_CORE, machine
from benchmarks.native import loop_rate
from benchmarks.onnx_fleet import write_onnx_fleet
from benchmarks.payloads import BULK
from benchmarks.processes import Served, house, measure, module
from benchmarks.report import PLOTS, Figure, as_text, say, write_into

SIZES: Final = (1_000, 10_000)
QUICK_SIZES: Final = (500,)
CONNECTIONS: Final = 4
HOME: Final = "folder that benchmarks.density has filled"
REACHING: Final = 200  # bulks of a large fleet, so that they ask a hundred thousand models and not the same few


@dataclass(frozen=True)
class Ours:
    """Our server over a fleet of so many models, and the bulks it is asked."""

    served: Served
    models: int
    bodies: Path


@dataclass(frozen=True)
class Rivals:
    """The rival's server, and what it and the loop are asked: bulks of the first `models` models."""

    served: Served
    models: int
    parquet: Path
    bodies: Path


def bulk_rounds(ours: Sequence[Ours], rivals: Rivals, *, rounds: int, seconds: float) -> list[Rounds]:
    """Rows a second of JSON bulks: each fleet of ours with both rivals, round by round."""
    everyone = [one.served for one in ours] + [rivals.served]

    def rate(served: Served, path: str, bodies: Path) -> float:
        found = measure(served, path, bodies, connections=CONNECTIONS, seconds=seconds, among=everyone)
        return found.rate * payloads.BULK_KEYS

    measured = []
    for one in ours:
        say(f"bulks of {one.models:,} models")
        kept = Rounds(one.models, [], [], [])
        for _ in range(rounds):
            kept.ours.append(rate(one.served, BULK, one.bodies))
            kept.rival.append(rate(rivals.served, "/predict/bulk", rivals.bodies))
            rivals.served.place(LOAD_CORE)
            kept.loop.append(loop_rate(rivals.parquet, rivals.bodies, rivals.models, seconds))
        measured.append(kept)
    return measured


@contextmanager
def imported(folder: Path, models: int) -> Iterator[Ours]:
    """Our server over a new home."""
    say(f"importing {models:,} models")
    file = folder / "fleet.parquet"
    write_fleet(file, models)
    with house(folder / f"home-{models}") as served:
        control = Control(served.port)
        control.ready()
        control.create_group()
        control.import_fleet(file)
        yield _asked(served, models, folder)


@contextmanager
def given_home(home: Path, folder: Path) -> Iterator[Ours]:
    """Our server over a home that holds the fleet already."""
    with house(home) as served:
        control = Control(served.port)
        control.until_live(keys(1)[0])
        yield _asked(served, int(control.call("GET", f"/v1/groups/{GROUP}")["live"]["models"]), folder)


@contextmanager
def rivals_of(folder: Path, models: int) -> Iterator[Rivals]:
    """The rivals over the first models of the fleet."""
    say(f"converting {models:,} models to ONNX for the rival")
    parquet = folder / "rivals.parquet"
    write_fleet(parquet, models)
    write_onnx_fleet(folder / "onnx", models)
    bodies = payloads.write_lines(folder / "rivals.jsonl", payloads.bulks(models))
    with module("rival", ["--models", str(folder / "onnx")]) as served:
        yield Rivals(served, models, parquet, bodies)


def _asked(served: Served, models: int, folder: Path) -> Ours:
    """With its bulks, each of which it has answered once; of the first every answer is compared."""
    lines = payloads.bulks(models, REACHING if models > max(SIZES) else payloads.BULKS)
    answers = [orjson.loads(answer) for answer in Control(served.port).predict(BULK, lines)]
    assert not any(answer["errors"] for answer in answers), "every row of a bulk must be answered"
    known = {key: number for number, key in enumerate(keys(models))}
    natives = [
        float(booster(known[row[0], row[1]]).predict([row[2:]], num_threads=1)[0])
        for row in orjson.loads(lines[0])["data"]
    ]
    assert answers[0]["predictions"] == natives, "our answers must equal Booster.predict to the last bit"
    return Ours(served, models, payloads.write_lines(folder / f"bulk-{models}.jsonl", lines))


def measured_figures(
    folder: Path, sizes: Sequence[int], home: Path | None, *, rounds: int, seconds: float
) -> tuple[list[Rounds], list[Figure]]:
    """Everything: JSON bulks, then Arrow and the crowd over the largest fleet made here, alone on its core."""
    with ExitStack() as stack:
        rivals = stack.enter_context(rivals_of(folder, min(sizes)))
        own = [stack.enter_context(imported(folder, models)) for models in sizes]
        big = [] if home is None else [stack.enter_context(given_home(home / "home", folder))]
        measured = bulk_rounds([*own, *big], rivals, rounds=rounds, seconds=seconds)
    with house(folder / f"home-{max(sizes)}") as served:
        Control(served.port).until_live(keys(max(sizes))[-1])
        figures = json_figures(measured, rivals.models)
        figures += arrow_figures(served, folder, max(sizes), rounds=rounds, seconds=seconds)
        figures += crowd_figures(served, folder, max(sizes), seconds=4 * seconds)
    return measured, figures


def main() -> None:
    """Measure and print the report."""
    given = arguments("benchmarks.bulk", __doc__, home=HOME, quick="500 models").parse_args()
    for fact in machine():
        say(fact)
    sizes, rounds, seconds = (QUICK_SIZES, 1, 1.0) if given.quick else (SIZES, 3, 3.0)
    with tempfile.TemporaryDirectory(prefix="manymodels-bench-") as folder:
        measured, figures = measured_figures(Path(folder), sizes, given.home, rounds=rounds, seconds=seconds)
    say(as_text(figures))
    if given.write is not None:
        write_into(given.write, "benchmarks.bulk", figures, ["![JSON bulks beside both rivals](benchmarks/bulk.png)"])
        draw(measured, PLOTS / "bulk.png")


if __name__ == "__main__":
    main()
