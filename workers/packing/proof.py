"""The proof of a pack: it must answer as its native model does where the two are likely to differ.

The rows lie where a model decides: on thresholds and beside them, at zero and around what counts as zero, at missing,
infinite and huge values, in and out of category sets. What the native library refuses, the pack must refuse. One
difference, and the model stays native.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from registry.signature import Signature
from workers.errors import PredictionFailedError
from workers.features import Features, Matrix
from workers.packing.checks import SOUND, check
from workers.packing.kernel import score
from workers.packing.layout import GOOD, ZERO, NotPackableError, Pack, Probe
from workers.packing.scoring import coded
from workers.runtimes.runtime import LoadedModel

_NEAR_ZERO: Final = float(np.nextafter(ZERO, 1.0))
_FINITE: Final = (0.0, -0.0, 1.5, -0.5, -1.0, ZERO, -ZERO, _NEAR_ZERO, -_NEAR_ZERO)
_HOSTILE: Final = (np.nan, np.inf, -np.inf, 1e300)
_CATEGORIES: Final = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 31.0, 32.0, 2.5, -0.5, 2147483647.0, 2147483648.0)
_AT_THRESHOLDS: Final = 24  # rows
_UNSEEN: Final = "a text that no model was trained on"


def prove_pack(pack: Pack, probe: Probe, model: LoadedModel, signature: Signature, tolerance: float) -> None:
    """Compare a pack with its native model; `tolerance` is relative, 0 for every bit.

    Raises:
        NotPackableError: if they differ, or the pack is not sound.
    """
    words = pack.words
    if check(words.ctypes.data, len(words), len(signature.inputs), signature.width, len(signature.classes)) != SOUND:
        raise NotPackableError("shape", "its pack is not sound")
    for rows in proof_rows(pack, probe, signature):
        expected = _native(model, rows)
        answers, states = score(words, coded(pack.codes, rows), signature.width)
        if expected is None:
            if (states == GOOD).any():
                raise NotPackableError("differs", "its pack answers rows that the model refuses")
        elif (states != GOOD).any() or not _equal(answers, expected, tolerance):
            raise NotPackableError("differs", "its pack answers otherwise")


def proof_rows(pack: Pack, probe: Probe, signature: Signature) -> list[Features]:
    """Rows that visit many splits: those every library takes in one lot, the others each alone where refusals are."""
    width = len(signature.inputs)
    plain = [np.repeat(np.array(_FINITE)[:, None], width, axis=1), _at_thresholds(probe, width)]
    hostile = np.repeat(np.array(_HOSTILE)[:, None], width, axis=1)
    texts = _texts(pack, signature)
    if not pack.words[8]:  # nothing is refused
        return [_features(np.concatenate((*plain, hostile)), texts)]
    return [_features(np.concatenate(plain), texts), *(_features(row[None, :], texts) for row in hostile)]


def _at_thresholds(probe: Probe, width: int) -> Matrix:
    rows = np.zeros((_AT_THRESHOLDS, width))
    for position in probe.positions:
        thresholds = probe.thresholds[position]
        if not len(thresholds):
            rows[:, position] = np.resize(np.array(_CATEGORIES), _AT_THRESHOLDS)
            continue
        chosen = thresholds[np.linspace(0, len(thresholds) - 1, _AT_THRESHOLDS).astype(np.intp)]
        away = np.array((-np.inf, 0.0, np.inf))[(np.arange(_AT_THRESHOLDS) + position) % 3]
        rows[:, position] = np.where(away == 0.0, chosen, np.nextafter(chosen, away))
    return rows


def _texts(pack: Pack, signature: Signature) -> dict[int, Sequence[Any]]:
    """For each text input what its rows hold in turn: its categories, an unseen one, none."""
    known = dict(pack.codes)
    return {
        position: [*known.get(position, ()), _UNSEEN, None]
        for position, spec in enumerate(signature.inputs)
        if spec.dtype == "string"
    }


def _features(matrix: Matrix, texts: dict[int, Sequence[Any]]) -> Features:
    matrix = np.ascontiguousarray(matrix)
    columns = {
        position: [values[row % len(values)] for row in range(len(matrix))] for position, values in texts.items()
    }
    for position in columns:
        matrix[:, position] = np.nan
    return Features(matrix, columns)


def _native(model: LoadedModel, rows: Features) -> Matrix | None:
    """The native answers, None if the library refuses the rows."""
    try:
        return model.predict(rows)
    except PredictionFailedError:
        return None


def _equal(answers: Matrix, expected: Matrix, tolerance: float) -> bool:
    if not tolerance:
        # Bits are compared, but for those of NaN, which tell nothing.
        return np.array_equal(answers, expected, equal_nan=True)
    close: NDArray[np.bool_] = np.isclose(answers, expected, rtol=tolerance, atol=0.0, equal_nan=True)
    return bool(close.all())
