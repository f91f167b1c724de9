"""From the rows of a call to rows that the kernel reads: inputs that go by categories are replaced by their codes."""

from collections.abc import Sequence

import numpy as np

from workers.features import Features, Matrix
from workers.packing.layout import Codes
from workers.runtimes.categories import encode


def coded(codes: Codes, features: Features) -> Matrix:
    """The rows of one model, C-contiguous, with its codes in place; copies only where there are codes."""
    rows: Matrix = np.ascontiguousarray(features.matrix, dtype=np.float64)  # who takes addresses makes sure
    if codes:
        rows = rows.copy()
        put_codes(codes, features, range(len(rows)), rows)
    return rows


def put_codes(codes: Codes, features: Features, rows: Sequence[int], matrix: Matrix) -> None:
    """Write the codes of some rows of a call into the same rows of `matrix`."""
    chosen = np.empty((len(rows), matrix.shape[1]))
    encode([(position, position, known) for position, known in codes], features, rows, chosen)
    columns = [position for position, _ in codes]
    matrix[np.ix_(list(rows), columns)] = chosen[:, columns]
