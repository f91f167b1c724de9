"""Toy artifacts that misbehave in a child: they crash, hang, eat memory or answer nonsense when loaded or asked.

A child finds them by the dotted name `tests.support.toy_runtimes:runtime`, in place of the catalog of real runtimes.
An artifact is text: `sum` is a model that adds up its row, as is one that begins with `moody` until its first input is
one of the moods below; everything else does what it says.
"""

import ctypes
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from registry.signature import Signature
from workers.children.child import _progress, importing
from workers.errors import ArtifactInvalidError, PredictionFailedError
from workers.features import Features, Matrix
from workers.packing.layout import NotPackableError, Pack, Probe
from workers.runtimes.finding import found_runtime
from workers.runtimes.runtime import Binding

CATALOG = "tests.support.toy_runtimes:runtime"
PREPARE = "tests.support.toy_runtimes:prepare"

CRASH, HANG, EAT, HOARD, LINGER = 666.0, 667.0, 668.0, 669.0, 670.0  # moods

LINGER_SECONDS = 0.02

_poisoned = False
_hoard: list[bytes] = []


@dataclass
class ToyModel:
    """Sums its rows, or answers what its artifact says."""

    binding: Binding
    data: bytes
    ballast: bytes = b""

    @property
    def inputs(self) -> tuple[int, ...]:
        return tuple(range(len(self.binding.signature.inputs)))

    def predict(self, features: Features) -> Matrix:
        rows = len(features)
        if self.data == b"infinite":
            return np.full((rows, 1), np.inf)
        if self.data == b"misshapen":
            return np.zeros((rows + 1, 1))
        if self.data == b"complete only" and np.isnan(features.matrix).any():
            raise PredictionFailedError("no missing values, please")
        if self.data == b"fussy":
            raise PredictionFailedError("I know no such text")
        if self.data.startswith(b"moody"):
            _indulge(features.matrix[0, 0])
        return features.matrix.sum(axis=1, keepdims=True)


def _indulge(mood: float) -> None:
    if mood == CRASH:
        ctypes.string_at(0)
    if mood == HANG:
        ctypes.PyDLL(None).pause()  # holds the interpreter's lock for ever
    if mood == EAT:
        bytes(1 << 40)
    if mood == LINGER:
        time.sleep(LINGER_SECONDS)
    while mood == HOARD:
        _hoard.append(bytes(1 << 20))


class ToyRuntime:
    """Loads `ToyModel`s, or does what the artifact says."""

    name = "sklearn"
    in_python = True
    tolerance = 0.0

    def pack(self, _data: bytes, _model: ToyModel, _signature: Signature) -> tuple[Pack, Probe]:
        raise NotPackableError("runtime", "toys have no packs")

    def sniff(self, data: bytes) -> None:
        if data == b"junk":
            raise ArtifactInvalidError("the bytes look like junk")

    def load(self, data: bytes, binding: Binding) -> ToyModel:
        global _poisoned
        if data == b"crash" or _poisoned:
            ctypes.string_at(0)
        if data == b"poison":
            _poisoned = True
        if data == b"abort":
            os.abort()
        if data == b"hang":
            ctypes.PyDLL(None).pause()  # holds the interpreter's lock for ever
        if data == b"eat":
            return ToyModel(binding, data, bytes(1 << 40))
        if data == b"break":
            raise ZeroDivisionError("a library broke")
        if data == b"slow":
            time.sleep(0.3)
        return ToyModel(binding, data, bytes(1 << 20) if data == b"megabyte" else b"")


def runtime(name: str) -> ToyRuntime:
    """The catalog of toys: the same for every name."""
    return ToyRuntime()


def prepare() -> None:
    """Toys need no warming, but what proves them does."""
    import workers.builder.proving  # noqa: F401 - imported for its effect


def environment(context: bytes, payload: bytes) -> Iterator[bytes]:
    """A child's job that answers its threads (jemalloc's own aside) after work for BLAS and OpenMP, and its limits."""
    import sklearn.ensemble

    np.ones((500, 500)) @ np.ones((500, 500))
    sklearn.ensemble.HistGradientBoostingRegressor(max_iter=2).fit(np.ones((9, 2)), np.ones(9))
    names = [(thread / "comm").read_text().strip() for thread in Path("/proc/self/task").iterdir()]
    limits = [resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)]
    yield repr(([name for name in names if "jemalloc" not in name], limits)).encode()


def import_much(context: bytes, payload: bytes) -> Iterator[bytes]:
    """A child's job: import something of so many bytes, then allocate as many. Answers what that came to."""
    size = int(payload)
    with importing():
        _hoard.append(bytes(size))
    yield b"imported"
    try:
        _hoard.append(bytes(size))
    except MemoryError:
        yield b"too much"


def find_twice(context: bytes, payload: bytes) -> Iterator[bytes]:
    """A child's job that answers what it had noted before it found a runtime, after that, and after finding it again."""
    noted = [_progress[0][0]]
    for _ in range(2):
        found_runtime(CATALOG, "sklearn")
        noted.append(_progress[0][0])
    yield repr(noted).encode()


def libraries(context: bytes, payload: bytes) -> Iterator[bytes]:
    """A child's job that answers which of the runtimes' libraries it has imported."""
    yield repr([name for name in ("lightgbm", "onnxruntime", "sklearn", "skops") if name in sys.modules]).encode()


def process_id(context: bytes, payload: bytes) -> Iterator[bytes]:
    """A child's job that answers its process id, then waits if asked to."""
    yield str(os.getpid()).encode()
    if payload == b"wait":
        time.sleep(600)
