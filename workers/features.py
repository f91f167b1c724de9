"""The rows of one call, checked against a signature and laid out once for every runtime.

All inputs lie in one C-contiguous float64 matrix in signature order, because that is what nearly every small model
wants; what a float64 cannot carry (text, integers past 2^53) lies beside it. Missing is NaN in the matrix and None
in a text column.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Rows = NDArray[np.intp]


_NONE: Final[Mapping[int, Any]] = MappingProxyType({})


class Features:
    """Checked rows.

    Attributes:
        text: input position -> one text or None a row.
        exact: input position -> int64, shape (rows,), only where a value does not fit float64 exactly.
        cells: of a single row of plain numbers these numbers in signature order, else None. A runtime that takes them
            spares the matrix, which costs more than many a model.
    """

    __slots__ = ("_matrix", "cells", "exact", "text")

    def __init__(
        self,
        matrix: Matrix | None,
        text: Mapping[int, Sequence[str | None]] = _NONE,
        exact: Mapping[int, NDArray[np.int64]] = _NONE,
        *,
        cells: Sequence[float] | None = None,
    ) -> None:
        """Either a matrix, or the `cells` of one row, each exact in float64."""
        self._matrix = matrix
        self.text = text
        self.exact = exact
        self.cells = cells

    @property
    def matrix(self) -> Matrix:
        """float64, shape (rows, inputs of the signature), C-contiguous.

        float32 inputs hold values already rounded to float32; bool is 0/1; timestamp is microseconds; string columns
        hold NaN.
        """
        if self._matrix is None:
            self._matrix = np.array((self.cells,), dtype=np.float64)
        return self._matrix

    def __len__(self) -> int:
        return 1 if self.cells is not None else len(self.matrix)

    @property
    def width(self) -> int:
        """Inputs of a row."""
        return len(self.cells) if self.cells is not None else int(self.matrix.shape[1])

    def take(self, rows: Rows) -> "Features":
        """The same inputs for some of the rows, in that order (copies)."""
        return Features(
            np.ascontiguousarray(self.matrix[rows]),
            {position: [column[row] for row in rows.tolist()] for position, column in self.text.items()},
            {position: column[rows] for position, column in self.exact.items()},
        )


def joined(parts: Sequence[Features]) -> Features:
    """The rows of several, one behind the other, all of one signature (copies)."""
    if len(parts) == 1:
        return parts[0]
    text = {position: [value for part in parts for value in part.text[position]] for position in parts[0].text}
    exact = {
        position: np.concatenate([_exact(part, position) for part in parts])
        for position in sorted({position for part in parts for position in part.exact})
    }
    return Features(np.concatenate([part.matrix for part in parts]), text, exact)


def _exact(part: Features, position: int) -> NDArray[np.int64]:
    """An input as int64 where another portion needs that; missing and infinite cells, which none reads, are 0."""
    if position in part.exact:
        return part.exact[position]
    column = part.matrix[:, position]
    return np.where(np.isfinite(column), column, 0.0).astype(np.int64)
