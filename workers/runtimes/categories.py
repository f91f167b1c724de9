"""Categories: the values of categorical inputs as the codes that one model gave them when it was trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workers.features import Features, Matrix

Codes = Sequence[tuple[int, int, Mapping[Any, int]]]
"""Of each categorical input: its column in the matrix, its position in the signature, its values' codes."""


def encode(codes: Codes, features: Features, rows: Sequence[int], matrix: Matrix) -> None:
    """Write the codes of some rows into the rows of `matrix`; missing and unseen values become NaN."""
    for column, position, known in codes:
        values: Any = features.text.get(position)
        if values is None:
            values = features.exact.get(position)
        if values is None:
            values = features.matrix[:, position]
        for at, row in enumerate(rows):
            value = values[row]
            matrix[at, column] = known.get(value if type(value) is str else _plain(value), np.nan)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
