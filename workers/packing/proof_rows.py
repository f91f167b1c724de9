"""The rows of a proof: where a model decides, or a library may refuse.

They lie on thresholds and beside them, at zero and around what counts as zero, at missing, infinite and huge values, in
and out of category sets. They are values that the signature's dtypes allow: an integer input holds whole numbers, a
float32 input float32.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from registry.signature import Signature
from workers.features import Features, Matrix
from workers.packing.layout import LINEAR, NARROW_TREES, ZERO, Head, Pack, Probe, head_of

_NEAR_ZERO: Final = float(np.nextafter(ZERO, 1.0))
_FINITE: Final = (0.0, -0.0, 1.5, -0.5, -1.0, ZERO, -ZERO, _NEAR_ZERO, -_NEAR_ZERO)
_HOSTILE: Final = (np.nan, np.inf, -np.inf)
_HUGE: Final = 1e300
_WIDEST: Final = 3.4028235677973363e38  # the largest float64 that rounds to a finite float32
_CATEGORIES: Final = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 31.0, 32.0, 2.5, -0.5, 2147483647.0, 2147483648.0)
_AT_THRESHOLDS: Final = 24  # rows
_MOST_CATEGORIES: Final = 256  # rows, where there are categories
_SINGLE: Final = 8  # inputs that are hostile alone
_UNSEEN: Final = "a text that no model was trained on"
_WHOLE: Final = float(1 << 53)

Values = Mapping[int, Sequence[Any]]


def proof_rows(pack: Pack, probe: Probe, signature: Signature) -> Features:
    """Rows that visit many splits or terms, and for each reason that a library may have to refuse one, such a row."""
    width = len(signature.inputs)
    head = head_of(pack.words)
    texts, coded = _known(pack, signature)
    longest = max(map(len, (*texts.values(), *coded.values())), default=0)
    if head.family == LINEAR:
        longest = max(longest, *map(len, probe.thresholds.values())) if probe.thresholds else longest
    count = min(max(_AT_THRESHOLDS, longest), _MOST_CATEGORIES)
    rows = [_all_equal(_FINITE, width), _decisive(probe, coded, head, width, count)]
    hostile = [*_HOSTILE, *(() if head.family == LINEAR else (_HUGE,))]  # sums of huge terms may cancel out
    if head.refuses or head.family == LINEAR:
        rows.append(_alone(rows[1], probe.positions or range(width), hostile))
    if head.family == NARROW_TREES:
        rows.append(_all_equal((_WIDEST, -_WIDEST), width))
    rows.append(_all_equal(hostile, width))
    return _features(np.concatenate(rows), texts, signature)


def _known(pack: Pack, signature: Signature) -> tuple[Values, Values]:
    """What inputs hold in turn: text inputs their categories, an unseen text, none; others with codes their values."""
    known = dict(pack.codes)
    texts = {
        position: [*(value for value in known.get(position, ()) if value is not None), _UNSEEN, None]
        for position, spec in enumerate(signature.inputs)
        if spec.dtype == "string"
    }
    coded = {position: [*map(float, values)] for position, values in known.items() if position not in texts}
    return texts, coded


def _all_equal(values: Sequence[float], width: int) -> Matrix:
    """A row of each value in all inputs."""
    rows: Matrix = np.repeat(np.array(values)[:, None], width, axis=1)
    return rows


def _decisive(probe: Probe, coded: Values, head: Head, width: int, count: int) -> Matrix:
    """Rows at the thresholds of each input, of a linear pack at its typical values and categories."""
    rows = np.zeros((count, width))
    numbers = np.arange(count)
    compared = []
    for position in probe.positions:
        thresholds = probe.thresholds[position]
        if position in coded or not len(thresholds):
            values = np.array((*coded.get(position, ()), *_CATEGORIES))
            rows[:, position] = np.resize(values, count)
        elif head.family == LINEAR:
            # In turn, each input in steps of its own, so that they do not move together.
            rows[:, position] = thresholds[numbers * (1 + position % 3) % len(thresholds)]
        else:
            rows[:, position] = thresholds[numbers * (len(thresholds) - 1) // (count - 1)]
            compared.append(position)
    if compared:
        phase = numbers[:, None] + np.array(compared)
        rows[:, compared] = _beside(rows[:, compared], phase, narrow=head.family == NARROW_TREES)
    return rows


def _beside(thresholds: Matrix, phase: NDArray[np.intp], *, narrow: bool) -> Matrix:
    """Thresholds, or their neighbours; where inputs are read as float32, neighbours as float32 too."""
    away = np.array((-np.inf, 0.0, np.inf))[phase % 3]
    beside: Matrix = np.where(away == 0.0, thresholds, np.nextafter(thresholds, away))
    if narrow:
        rounded = thresholds.astype(np.float32)
        near = np.where(away == 0.0, rounded, np.nextafter(rounded, away.astype(np.float32)))
        beside = np.where(phase % 2 == 0, beside, near.astype(np.float64))
    return beside


def _alone(rows: Matrix, positions: Sequence[int], hostile: Sequence[float]) -> Matrix:
    """Decisive rows in which one input is hostile."""
    chosen = [positions[at] for at in np.unique(np.linspace(0, len(positions) - 1, _SINGLE).astype(int))]
    cells = [(position, value) for value in hostile for position in chosen]
    made = rows[np.arange(len(cells)) % len(rows)]
    for row, (position, value) in enumerate(cells):
        made[row, position] = value
    return made


def _features(matrix: Matrix, texts: Values, signature: Signature) -> Features:
    matrix = np.ascontiguousarray(matrix)
    for position, spec in enumerate(signature.inputs):
        matrix[:, position] = _allowed(matrix[:, position], spec.dtype)
    columns = {
        position: [values[row % len(values)] for row in range(len(matrix))] for position, values in texts.items()
    }
    return Features(matrix, columns)


def _allowed(column: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """Values as an input of this dtype may hold them."""
    if dtype == "float32":
        with np.errstate(over="ignore"):
            narrow: NDArray[np.float64] = column.astype(np.float32).astype(np.float64)
            return narrow
    if dtype == "bool":
        return np.where(np.isnan(column), column, (column > 0).astype(np.float64))
    if dtype in ("int64", "timestamp"):
        whole: NDArray[np.float64] = np.rint(np.clip(column, -_WHOLE, _WHOLE))
        return whole
    return np.full_like(column, np.nan) if dtype == "string" else column
