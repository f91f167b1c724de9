"""Making models ready to answer, in a process of its own for each way, so that each way's memory is its own.

`python -m benchmarks.loading --way pack --folder DIR` reads the files that `write_ways` put there, one at a time, makes
each ready and keeps it; prints as JSON what one takes in time and in memory.
"""

import argparse
import ctypes
import gc
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import joblib  # type: ignore[import-untyped] # ships no types
import lightgbm as lgb

from benchmarks.fleet import FEATURES, booster, group_body, model_text
from benchmarks.footprint import Footprint
from benchmarks.machine import SERVER_CORE
from benchmarks.onnx_fleet import write_onnx_fleet
from benchmarks.processes import run

if TYPE_CHECKING:
    from workers.runtimes.runtime import Binding

WARM: Final = 10  # models made ready and let go before anything counts: imports, first allocations


@dataclass(frozen=True)
class Readied:
    """Seconds and bytes a model."""

    seconds: float
    size: float


def pack_one(text: bytes) -> bytes:
    """The proven pack of a model, as registration makes it. Raises NotPackableError: every model must be packable."""
    from workers.builder.proving import pack_artifact
    from workers.runtimes.lightgbm import LIGHTGBM

    binding = _binding()
    return pack_artifact(LIGHTGBM, text, LIGHTGBM.load(text, binding), binding.signature).words.tobytes()


def write_ways(folder: Path, models: int) -> None:
    """The first models of the fleet, as each way wants its files."""
    texts, pickles = folder / "txt", folder / "joblib"
    texts.mkdir()
    pickles.mkdir()
    for number in range(models):
        (texts / f"{number}.txt").write_bytes(model_text(number))
        joblib.dump(booster(number), pickles / f"{number}.joblib")
    write_onnx_fleet(folder / "onnx", models)


def readied(way: str, folder: Path) -> Readied:
    """Measure one way in a process of its own."""
    return Readied(**json.loads(run("loading", ["--way", way, "--folder", str(folder)], timeout=600.0)))


def _packed(path: Path) -> Callable[[], object]:
    text = path.read_bytes()
    return lambda: pack_one(text)


def _native(path: Path) -> Callable[[], object]:
    text = path.read_text()
    return lambda: lgb.Booster(model_str=text)


def _session(path: Path) -> Callable[[], object]:
    from benchmarks.rival import session

    data = path.read_bytes()
    return lambda: session(data)


def _unpickled(path: Path) -> Callable[[], object]:
    return lambda: joblib.load(path)


# name: (subfolder, what readies a file)
WAYS: Final[dict[str, tuple[str, Callable[[Path], Callable[[], object]]]]] = {
    "pack": ("txt", _packed),
    "native": ("txt", _native),
    "onnxruntime": ("onnx", _session),
    "joblib": ("joblib", _unpickled),
}


@cache
def _binding() -> "Binding":
    from registry.signature import Signature
    from workers.runtimes.runtime import Binding

    body: dict[str, Any] = group_body()
    binding = Binding(Signature.from_json(body["signature"], tuple(body["key"])))
    assert len(binding.signature.inputs) == len(FEATURES)
    return binding


def _measure(paths: list[Path], of: Callable[[Path], Callable[[], object]]) -> Readied:
    for path in paths[:WARM]:
        of(path)()
    before = _held()
    seconds = 0.0
    kept = []
    for path in paths:
        ready = of(path)
        begun = perf_counter()
        kept.append(ready())
        seconds += perf_counter() - begun
    return Readied(seconds / len(kept), (_held() - before) / len(kept))


def _held() -> int:
    """Anonymous memory, without what was freed and not given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return Footprint.of(os.getpid()).anonymous


def main() -> None:
    """Measure one way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=tuple(WAYS), required=True)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    os.sched_setaffinity(0, {SERVER_CORE})
    subfolder, of = WAYS[given.way]
    found = _measure(sorted((given.folder / subfolder).iterdir()), of)
    sys.stdout.write(json.dumps({"seconds": found.seconds, "size": found.size}) + "\n")


if __name__ == "__main__":
    main()
