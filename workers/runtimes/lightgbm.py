"""The LightGBM runtime: model texts, scored through the C API, and turned into packs where one equals them.

Answers equal `Booster.predict` to the last bit, for one row as for many. One row goes through LightGBM's single-row
fast call on a desk of preallocated buffers, because every array made on the way counts.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from registry.signature import Signature
from workers.errors import PredictionFailedError, SignatureMismatchError
from workers.features import Features, Matrix
from workers.packing.layout import Pack, Probe, assembled
from workers.packing.lightgbm import read_lightgbm
from workers.packing.outputs import outputs_of
from workers.runtimes.binding import bind_inputs
from workers.runtimes.categories import Codes, encode
from workers.runtimes.desk import Desks
from workers.runtimes.lightgbm_library import Handle, library
from workers.runtimes.lightgbm_text import ModelText, assign_categories, read_text, sniff_text
from workers.runtimes.projection import Projection
from workers.runtimes.runtime import Binding, LoadedModel
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
    in_python: Final = False
    tolerance: Final = 0.0

    def sniff(self, data: bytes) -> None:
        """See `Runtime.sniff`."""
        sniff_text(data)

    def load(self, data: bytes, binding: Binding) -> LoadedModel:
        """See `Runtime.load`. A binary model answers `[1 - p, p]` where the signature asks for two classes."""
        sniff_text(data)
        text = read_text(data)
        inputs = bind_inputs(_restored(text.features, binding.signature), binding.signature)
        categories = assign_categories(text, inputs, binding.signature)
        projection = Projection(binding.signature, text.outputs, _classes(text, binding))
        codes = [(column, inputs[column], known) for column, known in categories]
        return LightGBMModel(Handle(data, len(inputs)), inputs, text.outputs, codes, projection)

    def pack(self, data: bytes, model: LoadedModel, signature: Signature) -> tuple[Pack, Probe]:
        """See `Runtime.pack`."""
        assert isinstance(model, LightGBMModel)
        parts, probe = read_lightgbm(data, model.inputs)
        outputs, targets = outputs_of(signature, model.projection, parts.raw)
        words = assembled(replace(parts, outputs=outputs, targets=targets))
        return Pack(words, [(position, known) for _, position, known in model.codes]), probe


class LightGBMModel:
    """A booster bound to a signature. Its native memory goes with the last reference."""

    __slots__ = (
        "_desks",
        "_direct",
        "_handle",
        "_outputs",
        "_predict_row",
        "_taken",
        "codes",
        "inputs",
        "projection",
    )

    def __init__(
        self,
        handle: Handle,
        inputs: tuple[int, ...],
        outputs: int,
        codes: Codes,
        projection: Projection,
    ) -> None:
        self.inputs = inputs
        self._handle = handle
        self._outputs = outputs
        self.codes = codes
        self.projection = projection
        self._direct = projection.identity and projection.width == outputs
        self._taken = np.array(inputs, dtype=np.intp)
        self._predict_row = library().predict_row
        self._desks = Desks(len(inputs), outputs)

    def predict(self, features: Features) -> Matrix:
        """See `LoadedModel.predict`."""
        native = self._predict_one(features, 0) if len(features) == 1 else self._predict_many(features)
        return native if self._direct else self.projection.of(native)

    def predict_rows(self, sheet: Sheet, rows: Sequence[int]) -> None:
        """See `LoadedModel.predict_rows`."""
        if len(rows) >= _MANY_ROWS:
            score_gathered(self, sheet, rows)
            return
        if self._direct and not self.codes:
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
            sheet.scores[row] = (native if self._direct else self.projection.of(native))[0]

    def _predict_one(self, features: Features, row: int) -> Matrix:
        desk = self._desks.take()
        features.matrix[row : row + 1].take(self._taken, 1, desk.row, "clip")
        if self.codes:
            encode(self.codes, features, (row,), desk.row)
        if self._predict_row(self._handle.fast, desk.row_address, _LENGTH, desk.out_address):
            raise PredictionFailedError(f"LightGBM refuses the row: {library().error()}"[:500])
        native = desk.out.copy()
        self._desks.give_back(desk)
        return native

    def _predict_many(self, features: Features) -> Matrix:
        matrix = features.matrix.take(self._taken, axis=1)
        if self.codes:
            encode(self.codes, features, range(len(matrix)), matrix)
        return self._handle.predict(matrix)


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
