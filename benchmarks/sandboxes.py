"""What a sandbox costs: native models in processes of their own, beside the same ones in the serving process.

`python -m benchmarks.sandboxes` serves a fleet of ONNX models, and one of scikit-learn's polynomials, neither of
which is packed, in two houses that differ in `MANYMODELS_SANDBOXED_RUNTIMES` alone, and measures them in turn. All
processes of a house share one core, so what is compared is the processor time of an answer.
"""

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import skops.io
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from benchmarks import payloads
from benchmarks.control import Control
from benchmarks.fleet import keys, rows, sales
from benchmarks.load import Load
from benchmarks.machine import machine
from benchmarks.onnx_fleet import onnx_fleet
from benchmarks.payloads import BULK_KEYS, PREDICT
from benchmarks.processes import Served, house, measure
from benchmarks.report import Figure, as_text, of_rounds, say, spread, write_into

MODELS: Final = 1000
TRAINED: Final = 10
CONNECTIONS: Final = 16
BULK_CONNECTIONS: Final = 4
RUNTIMES: Final = {"ONNX trees": "onnx", "scikit-learn polynomials": "sklearn"}
APART: Final = "onnx,sklearn"


def models_of(runtime: str) -> list[bytes]:
    """Artifacts of a fleet that no pack takes."""
    if runtime == "onnx":
        return list(onnx_fleet(MODELS).values())
    fitted = [skops.io.dumps(_polynomial(seed)) for seed in range(TRAINED)]
    return [fitted[number % TRAINED] for number in range(MODELS)]


def _polynomial(seed: int) -> Any:
    table = rows(300, seed)
    return make_pipeline(StandardScaler(), PolynomialFeatures(), Ridge()).fit(
        table, sales(table, np.random.default_rng(seed))
    )


def write(path: Path, runtime: str) -> Path:
    """The bulk Parquet of a fleet."""
    known = keys(MODELS)
    columns = {
        "store": [store for store, _ in known],
        "brand": [brand for _, brand in known],
        "model": models_of(runtime),
        "runtime": [runtime] * MODELS,
    }
    pq.write_table(pa.table(columns), path)
    return path


def figures_of(name: str, runtime: str, folder: Path, *, rounds: int, seconds: float) -> list[Figure]:
    """Measure one kind of models."""
    folder.mkdir()
    fleet = write(folder / "fleet.parquet", runtime)
    singles = payloads.write_lines(folder / "single.jsonl", payloads.singles(MODELS, MODELS))
    bulks = payloads.write_lines(folder / "bulk.jsonl", payloads.bulks(MODELS))
    with ExitStack() as left:
        apart, together = (
            left.enter_context(house(folder / kind, environment={"MANYMODELS_SANDBOXED_RUNTIMES": runtimes}))
            for kind, runtimes in (("apart", APART), ("together", ""))
        )
        answers = [_ready(served, fleet, singles, bulks) for served in (apart, together)]
        assert answers[0] == answers[1], "a sandbox must not change an answer"
        say(f"measuring {rounds} rounds of {name}")
        measured = [_round(apart, together, singles, bulks, seconds) for _ in range(rounds)]
    return _figures(name, [list(column) for column in zip(*measured, strict=True)])


def _ready(served: Served, fleet: Path, *bodies: Path) -> list[Any]:
    """Import the fleet and ask for all of it, so that all is warm; the answers."""
    control = Control(served.port)
    control.ready()
    control.create_group()
    control.import_fleet(fleet)
    report = control.call("GET", f"{control.path}/releases")["releases"][0]["report"]
    assert not report["packed"], "what is packed needs no sandbox"
    paths = (PREDICT, payloads.BULK)
    found = [control.predict(path, file.read_bytes().splitlines()) for path, file in zip(paths, bodies, strict=True)]
    return [orjson.loads(answer)["predictions"] for answers in found for answer in answers]


def _round(apart: Served, together: Served, singles: Path, bulks: Path, seconds: float) -> list[Load]:
    both = (apart, together)

    def one(served: Served, path: str, file: Path, connections: int) -> Load:
        longer = 4 if path == payloads.BULK else 1  # a bulk of the slower kind takes seconds
        return measure(served, path, file, connections=connections, seconds=longer * seconds, among=both)

    return [
        one(served, path, file, connections)
        for path, file, connections in (
            (PREDICT, singles, CONNECTIONS),
            (PREDICT, singles, 1),
            (payloads.BULK, bulks, BULK_CONNECTIONS),
        )
        for served in both
    ]


def _figures(name: str, columns: Sequence[Sequence[Load]]) -> list[Figure]:
    apart, together, apart_one, together_one, apart_bulk, together_bulk = columns
    rates, others = [load.rate for load in apart], [load.rate for load in together]
    halves, other_halves = [load.p50 for load in apart_one], [load.p50 for load in together_one]
    bulk = [load.rate * BULK_KEYS for load in apart_bulk]
    other_bulk = [load.rate * BULK_KEYS for load in together_bulk]
    return [
        Figure(
            f"{name}: single predict in a sandbox, 16 connections, share of one without",
            of_rounds(rates, others),
            "x",
            f"{spread(rates, 'req/s')}, without {spread(others, 'req/s')}",
        ),
        Figure(
            f"{name}: 1 connection, p50 over that without",
            of_rounds(halves, other_halves),
            "x",
            f"{spread(halves, 'us')}, without {spread(other_halves, 'us')}",
        ),
        Figure(
            f"{name}: rows of bulks over 500 models, share of those without",
            of_rounds(bulk, other_bulk),
            "x",
            f"{spread(bulk, 'rows/s')}, without {spread(other_bulk, 'rows/s')}",
        ),
    ]


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sandboxes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table of this document")
    given = parser.parse_args()
    for fact in machine():
        say(fact)
    with tempfile.TemporaryDirectory(prefix="manymodels-bench-") as folder:
        figures = [
            figure
            for name, runtime in RUNTIMES.items()
            for figure in figures_of(name, runtime, Path(folder) / runtime, rounds=given.rounds, seconds=given.seconds)
        ]
    say(as_text(figures))
    if given.write is not None:
        write_into(given.write, "benchmarks.sandboxes", figures)


if __name__ == "__main__":
    main()
