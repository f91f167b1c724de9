"""The proof of a pack: it must answer as its native model does, to the last bit, where trees are likely to differ.

The rows lie where splits decide: on thresholds and beside them, at zero and around what counts as zero, at missing,
infinite and huge values, in and out of category sets. One difference, and the model stays native.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from workers.features import Matrix
from workers.packing.kernel import ZERO, score
from workers.packing.trees import TreePack

_NEAR_ZERO: Final = float(np.nextafter(ZERO, 1.0))
_EVERYWHERE: Final = (np.nan, 0.0, -0.0, np.inf, -np.inf, 1e300, ZERO, _NEAR_ZERO, -ZERO, -_NEAR_ZERO, 1.5, -0.5, -1.0)
_CATEGORIES: Final = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 31.0, 32.0, 2.5, -0.5, 2147483647.0, 2147483648.0)
_AT_THRESHOLDS: Final = 24  # rows


def is_proven(pack: TreePack, outputs: int, width: int, native: Callable[[Matrix], Matrix]) -> bool:
    """Whether a pack equals `native` on the rows of its proof, which have `width` columns."""
    rows = proof_rows(pack, width)
    answers = score(pack.words, rows, outputs)
    # Bits are compared, but for those of NaN, which tell nothing.
    return np.array_equal(answers, native(rows), equal_nan=True)


def proof_rows(pack: TreePack, width: int) -> Matrix:
    """Rows that visit many splits of the pack, float64, shape (rows, width)."""
    common = np.repeat(np.array(_EVERYWHERE)[:, None], width, axis=1)
    rows = np.zeros((_AT_THRESHOLDS, width))
    for position in np.unique(pack.inputs).tolist():
        thresholds = pack.thresholds[pack.inputs == position]
        if np.isnan(thresholds).any():
            rows[:, position] = np.resize(np.array(_CATEGORIES), _AT_THRESHOLDS)
            continue
        chosen = thresholds[np.linspace(0, len(thresholds) - 1, _AT_THRESHOLDS).astype(np.intp)]
        away = np.array((-np.inf, 0.0, np.inf))[(np.arange(_AT_THRESHOLDS) + position) % 3]
        rows[:, position] = np.where(away == 0.0, chosen, np.nextafter(chosen, away))
    return np.concatenate((common, rows))
