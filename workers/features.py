"""The rows of one call, checked against a signature and laid out once for every runtime.

All inputs lie in one C-contiguous float64 matrix in signature order, because that is what nearly every small model
wants; what a float64 cannot carry (text, integers past 2^53) lies beside it. Missing is NaN in the matrix and None
in a text column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(slots=True)
class Features:
    """Checked rows.

    Attributes:
        matrix: float64, shape (rows, inputs of the signature), C-contiguous. float32 inputs hold values already
            rounded to float32; bool is 0/1; timestamp is microseconds; string columns hold NaN.
        text: input position -> one text or None a row.
        exact: input position -> int64, shape (rows,), only where a value does not fit float64 exactly.
    """

    matrix: Matrix
    text: Mapping[int, Sequence[str | None]] = field(default_factory=dict)
    exact: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def take(self, rows: Rows) -> "Features":
        """The same inputs for some of the rows, in that order (copies)."""
        return Features(
            np.ascontiguousarray(self.matrix[rows]),
            {position: [column[row] for row in rows.tolist()] for position, column in self.text.items()},
            {position: column[rows] for position, column in self.exact.items()},
        )
