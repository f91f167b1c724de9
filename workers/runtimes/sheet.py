"""The sheet: rows of one call and the scores they get, laid out so that a thousand models can each fill their rows.

When every row of a call has its own model, what costs is not the models but the arrays cut out for each of them. A
sheet cuts the columns once per distinct binding and knows where its matrices lie in memory, so a runtime that takes
addresses needs none of its own.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.features import Features, Matrix

MAX_BLOCKS: Final = 16


class Block(NamedTuple):
    """Some columns of a sheet's rows: the matrix, where it lies, and the bytes from row to row."""

    matrix: Matrix
    address: int
    stride: int


class Sheet:
    """Rows being scored. Belongs to one call and one thread.

    Attributes:
        features: the rows.
        scores: float64, shape (rows, width), C-contiguous; NaN until a model fills its rows.
        address: where `scores` lies.
        stride: bytes from one row of `scores` to the next.
    """

    __slots__ = ("_blocks", "address", "features", "scores", "stride")

    def __init__(self, features: Features, width: int) -> None:
        self.features = features
        self.scores: Matrix = np.full((len(features), width), np.nan)
        self.address: int = self.scores.ctypes.data
        self.stride = width * 8
        self._blocks: dict[tuple[int, ...], Block] = {}

    def block(self, positions: tuple[int, ...], taken: NDArray[np.intp]) -> Block | None:
        """The columns of a binding, C-contiguous; `taken` is `positions` as an array. Cut once a sheet.

        None past 16 bindings: a fleet in which every model reads other features would copy all rows for each.
        """
        found = self._blocks.get(positions)
        if found is None and len(self._blocks) < MAX_BLOCKS:
            matrix: Matrix = np.ascontiguousarray(self.features.matrix, dtype=np.float64)  # who takes addresses trusts
            if len(positions) != matrix.shape[1] or positions != tuple(range(len(positions))):
                matrix = matrix.take(taken, axis=1)
            found = self._blocks[positions] = Block(matrix, matrix.ctypes.data, len(positions) * 8)
        return found


class _Predicts(Protocol):
    def predict(self, features: Features) -> Matrix: ...


def score_gathered(model: _Predicts, sheet: Sheet, rows: Sequence[int]) -> None:
    """Fill rows of a sheet by one `predict` of the rows cut out, for runtimes that take no addresses."""
    if len(rows) == len(sheet.features):  # rows are distinct and ascending: these are all of them
        sheet.scores[:] = model.predict(sheet.features)
    else:
        some = np.array(rows, dtype=np.intp)
        sheet.scores[some] = model.predict(sheet.features.take(some))
