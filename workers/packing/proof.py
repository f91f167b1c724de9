"""The proof of a pack: it must answer as its native model does where the two are likely to differ.

The rows (`workers.packing.proof_rows`) lie where a model decides. All that the pack answers are asked of the native
model in one lot, or two; of what the pack refuses the native model is asked a few, each alone, and must refuse it. One
difference, and the model stays native.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from registry.signature import Signature
from workers.errors import PredictionFailedError
from workers.features import Features, Matrix
from workers.packing.checks import SOUND, check
from workers.packing.kernel import score
from workers.packing.layout import GOOD, LINEAR, NotPackableError, Pack, Probe, head_of
from workers.packing.proof_rows import proof_rows
from workers.packing.scoring import coded
from workers.runtimes.runtime import LoadedModel

_REFUSED: Final = 2  # rows of each reason for refusing


def prove_pack(pack: Pack, probe: Probe, model: LoadedModel, signature: Signature, tolerance: float) -> None:
    """Compare a pack with its native model; `tolerance` is relative, 0 for every bit.

    Raises:
        NotPackableError: if they differ, or the pack is not sound.
    """
    words = pack.words
    if check(words.ctypes.data, len(words), len(signature.inputs), signature.width, len(signature.classes)) != SOUND:
        raise NotPackableError("shape", "its pack is not sound")
    rows = proof_rows(pack, probe, signature)
    answers, states = score(words, coded(pack.codes, rows), signature.width)
    if not (states == GOOD).any():
        raise NotPackableError("differs", "its pack answers no row of the proof")
    for lot in _lots(rows, states, signature):
        expected = _native(model, rows if len(lot) == len(rows) else rows.take(lot))
        if expected is None:
            raise NotPackableError("differs", "its pack answers rows that the model refuses")
        if not _equal(answers[lot], expected, tolerance, _slack(pack, expected, signature, tolerance)):
            raise NotPackableError("differs", "its pack answers otherwise")
    for row in _refused(states):
        if _native(model, rows.take(np.array([row]))) is not None:
            raise NotPackableError("differs", "its pack refuses rows that the model answers")


def _lots(rows: Features, states: NDArray[np.int8], signature: Signature) -> list[NDArray[np.intp]]:
    """The rows that are answered; in two lots where a missing value changes the dtype of a whole column."""
    good = states == GOOD
    missing = np.zeros(len(good), dtype=np.bool_)
    for position, spec in enumerate(signature.inputs):
        if spec.dtype in ("int64", "bool"):
            missing |= np.isnan(rows.matrix[:, position])
    return [lot for lot in (np.flatnonzero(good & ~missing), np.flatnonzero(good & missing)) if len(lot)]


def _refused(states: NDArray[np.int8]) -> list[int]:
    """Some of the rows that are refused, for each reason."""
    chosen: list[int] = []
    for state in np.unique(states[states != GOOD]):
        rows = np.flatnonzero(states == state)
        chosen += rows[np.linspace(0, len(rows) - 1, min(len(rows), _REFUSED)).astype(np.intp)].tolist()
    return chosen


def _native(model: LoadedModel, rows: Features) -> Matrix | None:
    """The native answers, None if the library refuses the rows."""
    try:
        return model.predict(rows)
    except PredictionFailedError:
        return None


def _slack(pack: Pack, expected: Matrix, signature: Signature, tolerance: float) -> Any:
    """How far answers may be apart besides, for each column.

    A linear pack adds its terms in another order than the native library, so that what nearly cancels out is as exact
    as its terms are: as a typical answer for values, as 1 for shares.
    """
    if not tolerance or head_of(pack.words).family != LINEAR:
        return 0.0
    scales = np.ones(expected.shape[1])
    column = 0
    for spec in signature.outputs:
        if spec.kind == "value":
            for own in range(column, column + spec.columns):
                present = np.abs(expected[:, own])[np.isfinite(expected[:, own])]
                scales[own] = np.median(present) if len(present) else 0.0
        column += spec.columns
    return tolerance * scales


def _equal(answers: Matrix, expected: Matrix, tolerance: float, slack: Any) -> bool:
    if not tolerance:
        # Bits are compared, but for those of NaN, which tell nothing.
        same = answers.view(np.int64) == expected.view(np.int64)
        return bool((same | (np.isnan(answers) & np.isnan(expected))).all())
    with np.errstate(invalid="ignore"):  # inf - inf, where both are infinite
        close = np.abs(answers - expected) <= tolerance * np.abs(expected) + slack
    close |= (answers == expected) | (np.isnan(answers) & np.isnan(expected))
    return bool(close.all())
