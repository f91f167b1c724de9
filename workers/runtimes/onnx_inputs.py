"""Feeding an ONNX session: from checked rows to the tensors its graph declares.

A graph takes either one tensor of all features side by side, or one tensor for each named feature. Which it is, and
whether the signature's dtypes can become the graph's, is decided once when the model is loaded.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from registry.signature import Signature
from workers.errors import PredictionFailedError, SignatureMismatchError
from workers.features import Features
from workers.runtimes.binding import bind_count, bind_inputs

Feed = Callable[[Features], dict[str, Any]]

_DTYPES: Final[dict[str, Any]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": object,
}


class Feeder:
    """How one graph's inputs are fed. Immutable after construction.

    Attributes:
        inputs: positions of the signature's inputs, in the graph's order.
        one_row: whether the graph is fixed to one row a call.
    """

    def __init__(self, declared: Sequence[Any], features: Sequence[str], signature: Signature) -> None:
        self._signature = signature
        self._names = [entry.name for entry in declared]
        self._dtypes = [_dtype(entry) for entry in declared]
        self._ranks = [len(entry.shape) for entry in declared]
        width = _width(declared[0]) if len(declared) == 1 else 1
        self._joined = len(declared) == 1 and (width != 1 or self._names[0] not in signature.positions)
        self.inputs = self._bind(declared, features, width)
        self.one_row = _fixed_rows(declared)
        self._taken = np.array(self.inputs, dtype=np.intp)
        dtypes = self._dtypes * len(self.inputs) if self._joined else self._dtypes
        for position, dtype in zip(self.inputs, dtypes, strict=True):
            self._check(position, dtype)

    def feed(self, features: Features) -> dict[str, Any]:
        """The session's input tensors. Missing text becomes the empty text, as ONNX has no other.

        Raises:
            PredictionFailedError: if a value is missing that the graph takes as an integer or a boolean.
        """
        if self._joined:
            return {self._names[0]: self._joined_tensor(features, self._dtypes[0])}
        return {
            name: _shaped(self._column(features, position, dtype), rank)
            for name, position, dtype, rank in zip(self._names, self.inputs, self._dtypes, self._ranks, strict=True)
        }

    def _bind(self, declared: Sequence[Any], features: Sequence[str], width: int | None) -> tuple[int, ...]:
        if not self._joined:
            for entry in declared:
                if _width(entry) not in (1, None):
                    raise SignatureMismatchError(
                        f"the input {entry.name!r} is {_width(entry)} columns wide; one of several inputs is one "
                        "feature",
                        field=entry.name,
                    )
            return bind_inputs(self._names, self._signature)
        if features and width in (None, len(features)):
            return bind_inputs(features, self._signature)
        return bind_count(len(self._signature.inputs) if width is None else width, self._signature)

    def _check(self, position: int, dtype: Any) -> None:
        spec = self._signature.inputs[position]
        if (spec.dtype == "string") != (dtype is object):
            wanted = "text" if dtype is object else "numbers"
            raise SignatureMismatchError(
                f"the graph reads {wanted} where the signature's {spec.name!r} is {spec.dtype}", field=spec.name
            )

    def _joined_tensor(self, features: Features, dtype: Any) -> NDArray[Any]:
        if dtype in (np.float32, np.float64):
            matrix = features.matrix.take(self._taken, axis=1)
            if dtype is np.float64:
                return matrix
            with np.errstate(over="ignore"):  # beyond float32 is infinite, as it was for whoever exported the graph
                return matrix.astype(np.float32)
        return np.stack([self._column(features, position, dtype) for position in self.inputs], axis=1)

    def _column(self, features: Features, position: int, dtype: Any) -> NDArray[Any]:
        if dtype is object:
            return np.array(["" if text is None else text for text in features.text[position]], dtype=object)
        if dtype is np.int64 and position in features.exact:
            return features.exact[position]
        column = features.matrix[:, position]
        if dtype in (np.int64, np.int32, np.bool_) and not np.isfinite(column).all():
            name = self._signature.inputs[position].name
            raise PredictionFailedError(f"{name!r} is missing, and the model takes whole numbers only", field=name)
        with np.errstate(over="ignore"):
            return column.astype(dtype)


def _shaped(column: NDArray[Any], rank: int) -> NDArray[Any]:
    return column if rank == 1 else column.reshape(-1, 1)


def _dtype(declared: Any) -> Any:
    if declared.type not in _DTYPES:
        raise SignatureMismatchError(
            f"the input {declared.name!r} is {declared.type}, which no feature can be", field=declared.name
        )
    if len(declared.shape) not in (1, 2):
        raise SignatureMismatchError(
            f"the input {declared.name!r} has {len(declared.shape)} dimensions, rows of features have 2",
            field=declared.name,
        )
    return _DTYPES[declared.type]


def _width(declared: Any) -> int | None:
    """Columns of an input tensor; None if the graph leaves them open."""
    if len(declared.shape) == 1:
        return 1
    width = declared.shape[1]
    return width if isinstance(width, int) else None


def _fixed_rows(declared: Sequence[Any]) -> bool:
    rows = {entry.shape[0] for entry in declared if isinstance(entry.shape[0], int)}
    if rows - {1}:
        raise SignatureMismatchError(f"the graph takes exactly {max(rows)} rows a call", field=declared[0].name)
    return bool(rows)
