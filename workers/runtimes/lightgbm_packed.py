"""A LightGBM model as a tree pack: a fifth of the memory, and scored together with others in one call of the kernel."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from workers.features import Features, Matrix
from workers.packing.kernel import score, score_row
from workers.packing.trees import Words
from workers.runtimes.categories import Codes, encode
from workers.runtimes.desk import Desks
from workers.runtimes.projection import Projection
from workers.runtimes.sheet import Sheet, score_gathered

_MANY_ROWS: Final = 8  # from here on one call for all is quicker than a call for each


class PackedLightGBM:
    """A proven pack bound to a signature."""

    __slots__ = ("_address", "_codes", "_desks", "_direct", "_outputs", "_projection", "_words", "inputs", "pack")

    def __init__(
        self, words: Words, inputs: tuple[int, ...], outputs: int, width: int, codes: Codes, projection: Projection
    ) -> None:
        """`width` is the signature's count of inputs; the columns of `codes` are positions in it."""
        self.inputs = inputs
        self._words = words
        self._address: int = words.ctypes.data
        self._outputs = outputs
        self._codes = codes
        self._projection = projection
        self._direct = projection.identity and projection.width == outputs
        self._desks = Desks(width, outputs)
        self.pack = self._address if self._direct and not codes else 0

    def predict(self, features: Features) -> Matrix:
        """See `LoadedModel.predict`."""
        native = self._one(features, 0) if len(features) == 1 else self._many(features)
        return native if self._direct else self._projection.of(native)

    def predict_rows(self, sheet: Sheet, rows: Sequence[int]) -> None:
        """See `LoadedModel.predict_rows`."""
        if len(rows) >= _MANY_ROWS:
            score_gathered(self, sheet, rows)
            return
        for row in rows:
            native = self._one(sheet.features, row)
            sheet.scores[row] = (native if self._direct else self._projection.of(native))[0]

    def _one(self, features: Features, row: int) -> Matrix:
        desk = self._desks.take()
        if features.cells is not None:
            desk.pack(*features.cells)
        else:
            desk.row[0] = features.matrix[row]
        if self._codes:
            encode(self._codes, features, (row,), desk.row)
        score_row(self._address, desk.row_address, desk.out_address)
        native = desk.out.copy()
        self._desks.give_back(desk)
        return native

    def _many(self, features: Features) -> Matrix:
        rows: Matrix = np.ascontiguousarray(features.matrix, dtype=np.float64)  # who takes addresses makes sure
        if self._codes:
            rows = rows.copy()
            encode(self._codes, features, range(len(rows)), rows)
        return score(self._words, rows, self._outputs)
