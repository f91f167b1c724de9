"""The few calls of LightGBM's C API that serving needs, without the Python package around them.

The package would bring pandas and scikit-learn into every worker and costs 25 us and more a prediction. The shared
library inside it is loaded by path. OpenMP is capped at one thread for the whole process: a fleet of small models
scores rows side by side, never one row on many cores.
"""

import ctypes
import importlib.util
import logging
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from workers.errors import ArtifactInvalidError, PredictionFailedError
from workers.features import Matrix

PARAMETERS: Final = b"num_threads=1"
_FLOAT64: Final = 1
_ROW_MAJOR: Final = 1
_NORMAL: Final = 0
_ALL_ITERATIONS: Final = -1

_log: Final = logging.getLogger(__name__)
_Address: Final = ctypes.c_void_p
_Log: Final = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


class Library:
    """The C API. One a process; every call but `predict_row` releases the GIL.

    Attributes:
        predict_row: (fast configuration, row address, address of an int64, address of the outputs) -> 0, or -1 for an
            error. It keeps the GIL: releasing and taking it back costs as much as a small model does, and a fast
            configuration serves one call at a time, which holding the GIL guarantees.
    """

    def __init__(self, path: Path) -> None:
        self._free_running = ctypes.CDLL(str(path))
        self._free_running.LGBM_GetLastError.restype = ctypes.c_char_p
        self.predict_row = ctypes.PyDLL(str(path)).LGBM_BoosterPredictForMatSingleRowFast
        self.predict_row.argtypes = [_Address, _Address, _Address, _Address]
        self.predict_row.restype = ctypes.c_int
        self._log = _Log(lambda message: _log.debug("%s", message.decode(errors="replace").strip()))
        self._check(self._free_running.LGBM_SetMaxThreads(1))

    def error(self) -> str:
        """What the last failed call of this thread says."""
        return str(self._free_running.LGBM_GetLastError().decode(errors="replace"))

    def load(self, text: bytes) -> int:
        """Parse a model text; answers a booster handle. Raises ArtifactInvalidError."""
        # Registered here because LightGBM keeps its log callback by thread; without one it prints to our stdout.
        self._free_running.LGBM_RegisterLogCallback(self._log)
        booster, iterations = _Address(), ctypes.c_int()
        if self._free_running.LGBM_BoosterLoadModelFromString(
            ctypes.c_char_p(text), ctypes.byref(iterations), ctypes.byref(booster)
        ):
            raise ArtifactInvalidError(f"LightGBM cannot parse the model text: {self.error()}"[:500])
        assert booster.value is not None
        return booster.value

    def configure_rows(self, booster: int, columns: int) -> int:
        """A fast configuration for rows of `columns` float64. Raises ArtifactInvalidError."""
        fast = _Address()
        if self._free_running.LGBM_BoosterPredictForMatSingleRowFastInit(
            _Address(booster), _NORMAL, 0, _ALL_ITERATIONS, _FLOAT64, columns, PARAMETERS, ctypes.byref(fast)
        ):
            raise ArtifactInvalidError(f"LightGBM cannot predict with this model: {self.error()}"[:500])
        assert fast.value is not None
        return fast.value

    def predict_matrix(self, booster: int, source: int, rows: int, columns: int, target: int) -> None:
        """Predict C-contiguous float64 rows at `source` into `target`. Raises PredictionFailedError."""
        length = ctypes.c_int64()
        if self._free_running.LGBM_BoosterPredictForMat(
            _Address(booster),
            _Address(source),
            _FLOAT64,
            ctypes.c_int32(rows),
            ctypes.c_int32(columns),
            _ROW_MAJOR,
            _NORMAL,
            0,
            _ALL_ITERATIONS,
            PARAMETERS,
            ctypes.byref(length),
            _Address(target),
        ):
            raise PredictionFailedError(f"LightGBM refuses the rows: {self.error()}"[:500])

    def outputs(self, booster: int) -> int:
        """Numbers that a prediction of one row has."""
        count = ctypes.c_int()
        self._check(self._free_running.LGBM_BoosterGetNumClasses(_Address(booster), ctypes.byref(count)))
        return count.value

    def free(self, booster: int, fast: int) -> None:
        """Give back the memory of a booster and its fast configuration (0: none)."""
        if fast:
            self._free_running.LGBM_FastConfigFree(_Address(fast))
        self._free_running.LGBM_BoosterFree(_Address(booster))

    def _check(self, status: int) -> None:
        if status:
            raise ArtifactInvalidError(self.error())


class Handle:
    """Owns one native booster: frees it when the last reference goes."""

    __slots__ = ("_columns", "_free", "_outputs", "_predict", "booster", "fast")

    def __init__(self, text: bytes, columns: int) -> None:
        native = library()
        self._free: Any = native.free
        self._predict = native.predict_matrix
        self._columns = columns
        self.fast = 0
        self.booster = native.load(text)
        self.fast = native.configure_rows(self.booster, columns)
        self._outputs = native.outputs(self.booster)

    def predict(self, rows: Matrix) -> Matrix:
        """Answers for rows of the model's own columns, shape (rows, outputs). Raises PredictionFailedError."""
        rows = np.ascontiguousarray(rows, dtype=np.float64)  # the native side trusts the address and the stride
        answers: Matrix = np.empty((len(rows), self._outputs))
        if len(rows):
            self._predict(self.booster, rows.ctypes.data, len(rows), self._columns, answers.ctypes.data)
        return answers

    def __del__(self) -> None:
        # A handle whose text did not parse has no booster.
        if hasattr(self, "booster"):
            self._free(self.booster, self.fast)


@cache
def library() -> Library:
    """The library of the installed LightGBM package, loaded at first use."""
    spec = importlib.util.find_spec("lightgbm")
    if spec is None or not spec.submodule_search_locations:
        raise ArtifactInvalidError("LightGBM is not installed here, so its models cannot be loaded")
    return Library(Path(spec.submodule_search_locations[0]) / "lib" / "lib_lightgbm.so")
