"""Arrow bulks: their bodies, and the limit beside them, the kernel called with nothing around it.

The bare kernel walks packs of the same models with the same rows, one model after another because that is its
quickest order, with all addresses made beforehand. Whatever an Arrow bulk takes beyond that is reading the stream,
finding the models, and writing the answer.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.control import Control
from benchmarks.fleet import FEATURES, WHOLE, booster, keys, model_text, rows
from benchmarks.load import ARROW
from benchmarks.machine import LOAD_CORE, SERVER_CORE
from benchmarks.payloads import BULK
from benchmarks.processes import Served, load, run
from benchmarks.report import Figure, of_rounds, say, spread

SEED: Final = 5
ROWS: Final = 100_000
COMPARED: Final = 500
PACKING_SECONDS: Final = 600.0  # the bare kernel's packs are made anew in its process


def arrow_body(models: int, count: int) -> bytes:
    """An Arrow stream of rows for keys drawn at random from the first `models`."""
    known = keys(models)
    drawn = drawn_models(models, count).tolist()
    table = rows(count, SEED)
    columns: dict[str, pa.Array] = {
        "store": pa.array([known[at][0] for at in drawn]),
        "brand": pa.array([known[at][1] for at in drawn]),
    }
    for at, name in enumerate(FEATURES):
        columns[name] = pa.array(table[:, at].astype(np.int64) if name in WHOLE else table[:, at])
    batch = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_table(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def arrow_body_of(models: int, size: int) -> tuple[bytes, int]:
    """A stream of about so many bytes, not more; the stream and its rows."""
    sample = 10_000
    count = int(size / (len(arrow_body(models, sample)) / sample) * 0.98)
    body = arrow_body(models, count)
    assert len(body) <= size, f"{len(body)} bytes are over {size}"
    return body, count


def drawn_models(models: int, count: int) -> NDArray[np.int64]:
    """The number of each row's model."""
    return np.random.default_rng(SEED).integers(0, models, count)


def arrow_figures(served: Served, folder: Path, models: int, *, rounds: int, seconds: float) -> list[Figure]:
    """Rows a second of Arrow bulks over one connection, as a share of the bare kernel's on the same core."""
    say("Arrow bulks beside the bare kernel")
    file = folder / "bulk.arrow"
    file.write_bytes(arrow_body(models, ROWS))
    _check(served, models, file)
    ours, bare = [], []
    given = ["--media-type", ARROW, "--connections", "1", "--seconds", str(seconds)]
    for _ in range(rounds):
        served.place(SERVER_CORE)
        ours.append(load(served.port, BULK, file, *given).rate * ROWS)
        served.place(LOAD_CORE)
        bare.append(_kernel_rate(models, seconds))
    return [
        Figure(
            f"Arrow bulk of {ROWS:,} rows over {models:,} models, share of the bare kernel",
            of_rounds(ours, bare),
            "x",
            f"ours {spread(ours, 'rows/s')}; kernel {spread(bare, 'rows/s')}, both on one core",
            least=0.6,
        )
    ]


def _check(served: Served, models: int, file: Path) -> None:
    """The first answers must be the native ones to the last bit."""
    status, answer = Control(served.port).ask("POST", BULK, file.read_bytes(), {"content-type": ARROW})
    assert status == 200, answer[:1000]
    table = pa.ipc.open_stream(answer).read_all()
    assert table.column("error_code").null_count == ROWS, "every row of a bulk must be answered"
    given = rows(ROWS, SEED)
    natives = [
        float(booster(number).predict(given[row][None], num_threads=1)[0])
        for row, number in enumerate(drawn_models(models, ROWS)[:COMPARED].tolist())
    ]
    assert table.column("sales").to_pylist()[:COMPARED] == natives, "our answers must equal Booster.predict"


def _kernel_rate(models: int, seconds: float) -> float:
    """Rows a second of the bare kernel, in a process of its own on the servers' core."""
    rate: float = json.loads(
        run("arrow_bulk", ["--models", str(models), "--seconds", str(seconds)], timeout=PACKING_SECONDS)
    )["rate"]
    return rate


def _measure(models: int, seconds: float) -> float:
    from workers.packing.kernel import score_rows, scratch
    from workers.packing.layout import assembled
    from workers.packing.lightgbm import read_lightgbm

    packs = [assembled(read_lightgbm(model_text(number), range(len(FEATURES)))[0]) for number in range(models)]
    table, answers = rows(ROWS, SEED), np.empty(ROWS)
    drawn = drawn_models(models, ROWS)
    by_model = np.argsort(drawn, kind="stable")
    starts = np.array([pack.ctypes.data for pack in packs])[drawn[by_model]]
    room, states = scratch(), np.empty(ROWS, dtype=np.int8)
    sources, outs = table.ctypes.data + by_model * table.strides[0], answers.ctypes.data + by_model * 8
    addresses = (starts, sources, outs, states, room.ctypes.data)
    score_rows(*addresses)
    done, begun = 0, perf_counter()
    while perf_counter() - begun < seconds:
        score_rows(*addresses)
        done += ROWS
    return done / (perf_counter() - begun)


def main() -> None:
    """Run the bare kernel and print its rate as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    os.sched_setaffinity(0, {SERVER_CORE})
    sys.stdout.write(json.dumps({"rate": _measure(given.models, given.seconds)}) + "\n")


if __name__ == "__main__":
    main()
