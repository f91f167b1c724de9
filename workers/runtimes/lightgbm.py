"""The LightGBM runtime: model texts, scored as tree packs or else through the C API.

Answers equal `Booster.predict` to the last bit, for one row as for many. In a native model one row goes through
LightGBM's single-row fast call on a desk of preallocated buffers, because every array made on the way counts.
"""

import ctypes
import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from registry.signature import Signature
from workers.errors import PredictionFailedError, SignatureMismatchError
from workers.features import Features, Matrix
from workers.packing.proof import is_proven
from workers.packing.trees import NotPackableError, Words, pack_lightgbm
from workers.runtimes.binding import bind_inputs
from workers.runtimes.categories import Codes, encode
from workers.runtimes.desk import Desks
from workers.runtimes.lightgbm_library import Handle, library
from workers.runtimes.lightgbm_packed import PackedLightGBM
from workers.runtimes.lightgbm_text import ModelText, assign_categories, read_text, sniff_text
from workers.runtimes.projection import Projection
from workers.runtimes.runtime import Binding, LoadedModel
from workers.runtimes.sheet import Sheet, score_gathered

log = logging.getLogger("manymodels.workers")

# Objectives whose single output is the probability of the second class.
_BINARY: Final = frozenset({"binary", "cross_entropy", "xentropy"})
# The matrix call sets up a predictor (12 us); from this many rows on that is cheaper than a call for each row.
_MANY_ROWS: Final = 8
_OUTPUT_LENGTH: Final = ctypes.c_int64()  # the C API insists on saying how many numbers it wrote
_LENGTH: Final = ctypes.addressof(_OUTPUT_LENGTH)
MOST_PACKED: Final = 8 << 20  # bytes of a text; of a larger model the trees' own size outweighs how they lie


class LightGBMRuntime:
    """Parses LightGBM model texts."""

    name: Final = "lightgbm"

    def sniff(self, data: bytes) -> None:
        """See `Runtime.sniff`."""
        sniff_text(data)

    def load(self, data: bytes, binding: Binding) -> LoadedModel:
        """See `Runtime.load`. A binary model answers `[1 - p, p]` where the signature asks for two classes.

        The model is a pack where one equals it to the last bit, else native.
        """
        sniff_text(data)
        text = read_text(data)
        inputs = bind_inputs(_restored(text.features, binding.signature), binding.signature)
        categories = assign_categories(text, inputs, binding.signature)
        projection = Projection(binding.signature, text.outputs, _classes(text, binding))
        handle = Handle(data, len(inputs))
        width = len(binding.signature.inputs)
        words = _proven_pack(data, handle, inputs, text.outputs, width)
        if words is None:
            codes = [(column, inputs[column], known) for column, known in categories]
            return LightGBMModel(handle, inputs, text.outputs, codes, projection)
        codes = [(inputs[column], inputs[column], known) for column, known in categories]
        return PackedLightGBM(words, inputs, text.outputs, width, codes, projection)


class LightGBMModel:
    """A booster bound to a signature. Its native memory goes with the last reference."""

    pack: Final = 0

    __slots__ = (
        "_codes",
        "_desks",
        "_direct",
        "_handle",
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
        codes: Codes,
        projection: Projection,
    ) -> None:
        self.inputs = inputs
        self._handle = handle
        self._outputs = outputs
        self._codes = codes
        self._projection = projection
        self._direct = projection.identity and projection.width == outputs
        self._taken = np.array(inputs, dtype=np.intp)
        self._predict_row = library().predict_row
        self._desks = Desks(len(inputs), outputs)

    def predict(self, features: Features) -> Matrix:
        """See `LoadedModel.predict`."""
        native = self._predict_one(features, 0) if len(features) == 1 else self._predict_many(features)
        return native if self._direct else self._projection.of(native)

    def predict_rows(self, sheet: Sheet, rows: Sequence[int]) -> None:
        """See `LoadedModel.predict_rows`."""
        if len(rows) >= _MANY_ROWS:
            score_gathered(self, sheet, rows)
            return
        if self._direct and not self._codes:
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
            sheet.scores[row] = (native if self._direct else self._projection.of(native))[0]

    def _predict_one(self, features: Features, row: int) -> Matrix:
        desk = self._desks.take()
        features.matrix[row : row + 1].take(self._taken, 1, desk.row, "clip")
        if self._codes:
            encode(self._codes, features, (row,), desk.row)
        if self._predict_row(self._handle.fast, desk.row_address, _LENGTH, desk.out_address):
            raise PredictionFailedError(f"LightGBM refuses the row: {library().error()}"[:500])
        native = desk.out.copy()
        self._desks.give_back(desk)
        return native

    def _predict_many(self, features: Features) -> Matrix:
        matrix = features.matrix.take(self._taken, axis=1)
        if self._codes:
            encode(self._codes, features, range(len(matrix)), matrix)
        return self._handle.predict(matrix)


def _proven_pack(data: bytes, handle: Handle, inputs: tuple[int, ...], outputs: int, width: int) -> Words | None:
    """The model's pack if there is one that equals it."""
    if len(data) > MOST_PACKED:
        return None
    try:
        pack = pack_lightgbm(data, inputs)
    except NotPackableError as error:
        log.debug("a model stays native: %s", error)
        return None
    if is_proven(pack, outputs, width, lambda rows: handle.predict(rows[:, list(inputs)])):
        return pack.words
    log.warning("a model stays native: its pack answers otherwise")
    return None


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
