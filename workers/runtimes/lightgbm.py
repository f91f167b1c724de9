"""The LightGBM runtime: model texts, scored through the C API.

Answers equal `Booster.predict` to the last bit, for one row as for many. One row goes through LightGBM's single-row
fast call on a desk of preallocated buffers, because at a few microseconds a model every array made on the way counts.
"""

import ctypes
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from struct import Struct
from typing import Any, Final

import numpy as np

from registry.signature import Signature
from workers.errors import PredictionFailedError, SignatureMismatchError
from workers.features import Features, Matrix
from workers.runtimes.binding import bind_inputs
from workers.runtimes.lightgbm_library import Handle, library
from workers.runtimes.lightgbm_text import ModelText, assign_categories, read_text, sniff_text
from workers.runtimes.projection import Projection
from workers.runtimes.runtime import Binding
from workers.runtimes.sheet import Sheet, score_gathered

# Objectives whose single output is the probability of the second class.
_BINARY: Final = frozenset({"binary", "cross_entropy", "xentropy"})
# The matrix call sets up a predictor (12 us); from this many rows on that is cheaper than a call for each row.
_MANY_ROWS: Final = 8
_OUTPUT_LENGTH: Final = ctypes.c_int64()  # the C API insists on saying how many numbers it wrote
_LENGTH: Final = ctypes.addressof(_OUTPUT_LENGTH)


class LightGBMRuntime:
    """Parses LightGBM model texts."""

    name: Final = "lightgbm"

    def sniff(self, data: bytes) -> None:
        """See `Runtime.sniff`."""
        sniff_text(data)

    def load(self, data: bytes, binding: Binding) -> "LightGBMModel":
        """See `Runtime.load`. A binary model answers `[1 - p, p]` where the signature asks for two classes."""
        sniff_text(data)
        text = read_text(data)
        inputs = bind_inputs(_restored(text.features, binding.signature), binding.signature)
        categories = assign_categories(text, inputs, binding.signature)
        projection = Projection(binding.signature, text.outputs, _classes(text, binding))
        return LightGBMModel(Handle(data, len(inputs)), inputs, text.outputs, categories, projection)


class Desk:
    """Buffers for one prediction of one row. Used by one thread at a time."""

    __slots__ = ("out", "out_address", "pack", "row", "row_address")

    def __init__(self, columns: int, outputs: int) -> None:
        self.row: Matrix = np.empty((1, columns))
        self.out: Matrix = np.empty((1, outputs))
        self.row_address: int = self.row.ctypes.data
        self.out_address: int = self.out.ctypes.data
        self.pack: Callable[..., None] = partial(Struct(f"{columns}d").pack_into, self.row.data, 0)


# The idle desks by columns and outputs: few and shared by all models, so that they stay in the processor's caches.
# A desk is taken by pop and given back by append, both atomic, so threads never share one.
_DESKS: Final[defaultdict[tuple[int, int], list[Desk]]] = defaultdict(list)


class LightGBMModel:
    """A booster bound to a signature. Its native memory goes with the last reference."""

    __slots__ = (
        "_categories",
        "_desks",
        "_direct",
        "_handle",
        "_in_order",
        "_outputs",
        "_predict_row",
        "_projection",
        "_taken",
        "inputs",
    )

    def __init__(
        self,
        handle: Handle,
        inputs: tuple[int, ...],
        outputs: int,
        categories: Sequence[tuple[int, Mapping[Any, int]]],
        projection: Projection,
    ) -> None:
        self.inputs = inputs
        self._handle = handle
        self._outputs = outputs
        self._categories = categories
        self._projection = projection
        self._direct = projection.identity and projection.width == outputs
        self._taken = np.array(inputs, dtype=np.intp)
        self._predict_row = library().predict_row
        self._in_order = inputs == tuple(range(len(inputs)))
        self._desks = _DESKS[len(inputs), outputs]

    def predict(self, features: Features) -> Matrix:
        """See `LoadedModel.predict`."""
        native = self._predict_one(features, 0) if len(features) == 1 else self._predict_many(features)
        return native if self._direct else self._projected(native)

    def predict_rows(self, sheet: Sheet, rows: Sequence[int]) -> None:
        """See `LoadedModel.predict_rows`."""
        if len(rows) >= _MANY_ROWS:
            score_gathered(self, sheet, rows)
            return
        if self._direct and not self._categories:
            block = sheet.block(self.inputs, self._taken)
            if block is not None:
                _, source, stride = block
                target, step, fast = sheet.address, sheet.stride, self._handle.fast
                for row in rows:
                    if self._predict_row(fast, source + row * stride, _LENGTH, target + row * step):
                        raise PredictionFailedError(f"LightGBM refuses row {row}: {library().error()}"[:500])
                return
        for row in rows:
            native = self._predict_one(sheet.features, row)
            sheet.scores[row] = (native if self._direct else self._projected(native))[0]

    def _predict_one(self, features: Features, row: int) -> Matrix:
        try:
            desk = self._desks.pop()
        except IndexError:  # other threads are at all of them
            desk = Desk(len(self.inputs), self._outputs)
        cells = features.cells
        if cells is None:
            features.matrix[row : row + 1].take(self._taken, 1, desk.row, "clip")
        elif self._in_order and len(cells) == len(self.inputs):
            desk.pack(*cells)
        else:
            desk.pack(*[cells[position] for position in self.inputs])
        if self._categories:
            self._encode(features, desk.row, (row,))
        if self._predict_row(self._handle.fast, desk.row_address, _LENGTH, desk.out_address):
            raise PredictionFailedError(f"LightGBM refuses the row: {library().error()}"[:500])
        native = desk.out.copy()
        self._desks.append(desk)
        return native

    def _predict_many(self, features: Features) -> Matrix:
        # The native side trusts the address and the stride: make sure of both.
        matrix: Matrix = np.ascontiguousarray(features.matrix.take(self._taken, axis=1), dtype=np.float64)
        if self._categories:
            self._encode(features, matrix, range(len(matrix)))
        native: Matrix = np.empty((len(matrix), self._outputs))
        if len(matrix):
            library().predict_matrix(
                self._handle.booster, matrix.ctypes.data, len(matrix), len(self.inputs), native.ctypes.data
            )
        return native

    def _encode(self, features: Features, matrix: Matrix, rows: Sequence[int]) -> None:
        """Replace the values of categorical columns by the model's own codes; missing and unseen become NaN."""
        for column, codes in self._categories:
            position = self.inputs[column]
            values: Any = features.text.get(position)
            if values is None:
                values = features.exact.get(position)
            if values is None:
                values = features.matrix[:, position]
            for at, row in enumerate(rows):
                value = values[row]
                matrix[at, column] = codes.get(value if type(value) is str else _plain(value), np.nan)

    def _projected(self, native: Matrix) -> Matrix:
        scores: Matrix = np.empty((len(native), self._projection.width))
        if len(self._projection.targets):
            if native.shape[1] == 1:
                native = np.concatenate((1.0 - native, native), axis=1)
            self._projection.fill(scores, probabilities=native)
        else:
            self._projection.fill(scores, values=native)
        return scores


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _restored(features: Sequence[str], signature: Signature) -> tuple[str, ...]:
    """The features' names as the signature writes them: LightGBM replaces white space in names by underscores."""
    written = {"_".join(spec.name.split(" ")): spec.name for spec in signature.inputs if " " in spec.name}
    return tuple(name if name in signature.positions else written.get(name, name) for name in features)


def _classes(text: ModelText, binding: Binding) -> tuple[Any, ...]:
    """The classes of the booster's outputs: as its author said, else the group's where their numbers agree.

    Raises:
        SignatureMismatchError: if the outputs are no class probabilities, or nobody says of which classes.
    """
    group = binding.signature.classes
    if not group:
        return ()
    if text.outputs == 1 and text.objective not in _BINARY:
        raise SignatureMismatchError(
            f"the signature has classes, but the model's objective is {text.objective or 'custom'!r}", field="outputs"
        )
    count = max(text.outputs, 2)
    if binding.classes and len(binding.classes) != count:
        raise SignatureMismatchError(
            f"the model answers {count} classes, its author names {len(binding.classes)}", field="classes"
        )
    if not binding.classes and len(group) != count:
        raise SignatureMismatchError(
            f"the model answers {count} of the group's {len(group)} classes; say which ones in the meta's 'classes'",
            field="classes",
        )
    return binding.classes or group


LIGHTGBM: Final = LightGBMRuntime()
