"""Predicts over real sockets: our server beside a bare echo, a hand-tuned rival and the native library.

The same thousand models and the same rows everywhere. Every round measures each server once, one after another, so
that what the machine does meanwhile falls on all of them; a figure is the median of the rounds' ratios.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import orjson

from benchmarks import payloads
from benchmarks.control import Control
from benchmarks.families import Family, import_families
from benchmarks.fleet import FEATURES, keys, read_boosters
from benchmarks.load import Load
from benchmarks.machine import LOAD_CORE
from benchmarks.native import loop_rate
from benchmarks.onnx_fleet import write_onnx_fleet
from benchmarks.payloads import BULK, PREDICT
from benchmarks.processes import Served, house, measure, module
from benchmarks.report import Figure, of_rounds, say, spread

MODELS: Final = 1000
MANY: Final = 16
BULK_CONNECTIONS: Final = 4


@dataclass(frozen=True)
class Bodies:
    """Files of request bodies, and of the answers that our server gave to the single ones."""

    single: Path
    bulk: Path
    answers: Path


@dataclass(frozen=True)
class Measured:
    """One round."""

    echo: Load
    echo_one: Load
    ours: Load
    ours_one: Load
    ours_bulk: Load
    rival: Load
    rival_one: Load
    rival_bulk: Load
    families: Mapping[str, Load]
    native_rows: float


def serving_figures(folder: Path, parquet: Path, *, rounds: int, seconds: float) -> list[Figure]:
    """Measure everything and answer the figures; `parquet` holds at least the thousand models."""
    bodies = Bodies(
        payloads.write_lines(folder / "single.jsonl", payloads.singles(MODELS, MODELS)),
        payloads.write_lines(folder / "bulk.jsonl", payloads.bulks(MODELS)),
        folder / "answers.jsonl",
    )
    say("converting them to ONNX for the rival")
    write_onnx_fleet(folder / "onnx", MODELS)
    with ExitStack() as servers:
        ours = servers.enter_context(house(folder / "home"))
        control = Control(ours.port)
        control.ready()
        say("importing them")
        control.create_group()
        control.import_fleet(parquet)
        say("comparing answers")
        expected = _expected(bodies.single, parquet)
        _check_ours(control, bodies, expected)
        say("importing forests and linear models")
        families = import_families(ours.port, folder)
        echo = servers.enter_context(module("echo", ["--answers", str(bodies.answers)]))
        rival = servers.enter_context(module("rival", ["--models", str(folder / "onnx")]))
        _check_rival(Control(rival.port), bodies.single, expected)
        say(f"measuring {rounds} rounds")
        measured = [_round(echo, ours, rival, bodies, families, parquet, seconds) for _ in range(rounds)]
    return _figures(measured)


def _round(
    echo: Served,
    ours: Served,
    rival: Served,
    bodies: Bodies,
    families: Sequence[Family],
    parquet: Path,
    seconds: float,
) -> Measured:
    everyone = (echo, ours, rival)

    def one(served: Served, path: str, file: Path, connections: int) -> Load:
        return measure(served, path, file, connections=connections, seconds=seconds, among=everyone)

    return Measured(
        echo=one(echo, PREDICT, bodies.single, MANY),
        ours=one(ours, PREDICT, bodies.single, MANY),
        families={family.name: one(ours, family.predict, family.bodies, MANY) for family in families},
        rival=one(rival, "/predict", bodies.single, MANY),
        echo_one=one(echo, PREDICT, bodies.single, 1),
        ours_one=one(ours, PREDICT, bodies.single, 1),
        rival_one=one(rival, "/predict", bodies.single, 1),
        ours_bulk=one(ours, BULK, bodies.bulk, BULK_CONNECTIONS),
        rival_bulk=one(rival, "/predict/bulk", bodies.bulk, BULK_CONNECTIONS),
        native_rows=_native(everyone, parquet, bodies.bulk, seconds),
    )


def _native(everyone: tuple[Served, ...], parquet: Path, bodies: Path, seconds: float) -> float:
    for served in everyone:
        served.place(LOAD_CORE)
    return loop_rate(parquet, bodies, MODELS, seconds)


def _expected(singles: Path, parquet: Path) -> list[float]:
    boosters = dict(zip(keys(MODELS), read_boosters(parquet, MODELS), strict=True))
    answers = []
    for line in singles.read_bytes().splitlines():
        body = orjson.loads(line)
        row = np.array([[body["instances"][0][name] for name in FEATURES]], dtype=np.float64)
        answers.append(float(boosters[body["key"]["store"], body["key"]["brand"]].predict(row, num_threads=1)[0]))
    return answers


def _check_ours(control: Control, bodies: Bodies, expected: list[float]) -> None:
    """Every answer must be the native one to the last bit; the answers become the echo's, all models become warm."""
    answers = control.predict(PREDICT, bodies.single.read_bytes().splitlines())
    got = [orjson.loads(answer)["predictions"][0] for answer in answers]
    assert got == expected, "our answers must equal Booster.predict to the last bit"
    payloads.write_lines(bodies.answers, answers)
    bulks = control.predict(BULK, bodies.bulk.read_bytes().splitlines())
    assert not any(orjson.loads(answer)["errors"] for answer in bulks), "every row of a bulk must be answered"


def _check_rival(control: Control, singles: Path, expected: list[float]) -> None:
    answers = control.predict("/predict", singles.read_bytes().splitlines())
    got = [orjson.loads(answer)["predictions"][0] for answer in answers]
    # It computes in float32: a row that lies on a threshold may fall to the other side.
    close = np.isclose(got, expected, rtol=1e-4).mean()
    assert close > 0.98, f"the rival must serve the same models, {close:.1%} agree"


def _figures(rounds: list[Measured]) -> list[Figure]:
    def rates(name: str) -> list[float]:
        return [getattr(measured, name).rate for measured in rounds]

    def halves(name: str) -> list[float]:
        return [getattr(measured, name).p50 for measured in rounds]

    native = [measured.native_rows for measured in rounds]
    bulk = [rate * payloads.BULK_KEYS for rate in rates("ours_bulk")]
    rival_bulk = [rate * payloads.BULK_KEYS for rate in rates("rival_bulk")]
    ours, echo, rival = rates("ours"), rates("echo"), rates("rival")
    tails = f"p50 {_middle(rounds, 'p50')}, p99 {_middle(rounds, 'p99')}"
    one = f"ours {spread(halves('ours_one'), 'us')}, echo {spread(halves('echo_one'), 'us')}"
    rival_one = f"ours {spread(halves('ours_one'), 'us')}, rival {spread(halves('rival_one'), 'us')}"
    return [
        Figure(
            "single predict, 16 connections, share of a bare echo",
            of_rounds(ours, echo),
            "x",
            f"ours {spread(ours, 'req/s')}, {tails}; echo {spread(echo, 'req/s')}",
            least=0.55,
        ),
        *(
            Figure(
                f"single predict of a {name} group, share of the echo",
                of_rounds([measured.families[name].rate for measured in rounds], echo),
                "x",
                f"ours {spread([measured.families[name].rate for measured in rounds], 'req/s')}",
                least=0.55,
            )
            for name in rounds[0].families
        ),
        Figure(
            "single predict, 1 connection, p50 over the echo's",
            of_rounds(halves("ours_one"), halves("echo_one")),
            "x",
            one,
            most=1.6,
        ),
        Figure(
            "single predict over the rival's, one process each",
            of_rounds(ours, rival),
            "x",
            f"rival {spread(rival, 'req/s')}",
            least=2.0,
        ),
        Figure(
            "single predict, 1 connection, p50 over the rival's",
            of_rounds(halves("ours_one"), halves("rival_one")),
            "x",
            rival_one,
        ),
        Figure("500-key JSON bulk", median(bulk), "rows/s", f"ours {spread(bulk, 'rows/s')}", least=200_000),
        Figure(
            "500-key JSON bulk over a loop of Booster.predict",
            of_rounds(bulk, native),
            "x",
            f"loop {spread(native, 'rows/s')}",
            least=5.0,
        ),
        Figure(
            "500-key JSON bulk over the rival's",
            of_rounds(bulk, rival_bulk),
            "x",
            f"rival {spread(rival_bulk, 'rows/s')}",
            least=8.0,
        ),
        Figure("load generator's own use of its core, at most", _busiest(rounds), "x", "over all loads above"),
    ]


def _busiest(rounds: list[Measured]) -> float:
    values: list[Mapping[str, Any]] = [vars(measured) for measured in rounds]
    loads = [load for measured in values for load in measured.values() if isinstance(load, Load)]
    return max(load.busy for load in [*loads, *(load for measured in rounds for load in measured.families.values())])


def _middle(rounds: list[Measured], percentile: str) -> str:
    return f"{median(getattr(measured.ours, percentile) for measured in rounds):,.0f} us"
