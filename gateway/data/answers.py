"""Score matrices become predictions: values, labels or probabilities, plain or by output name.

The layout of the matrix is the signature's (outputs side by side), so one reader per signature serves every format.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from registry.signature import OutputSpec, Signature
from workers.features import Matrix

_NONE: Final = np.empty(0, dtype=np.intp)
_FIRST: Final = np.zeros(1, dtype=np.intp)


class AnswerReader:
    """Reads score matrices of one signature. Immutable."""

    def __init__(self, signature: Signature) -> None:
        self._outputs = signature.outputs
        starts = np.cumsum([0, *(spec.columns for spec in signature.outputs)]).tolist()
        self._spans = tuple(pairwise(starts))
        self._single = len(signature.outputs) == 1
        self._plain = self._single and signature.width == 1 and signature.outputs[0].kind == "value"

    def start(self, output: int) -> int:
        """The first score column of an output."""
        start: int = self._spans[output][0]
        return start

    @property
    def plain(self) -> bool:
        """Whether a prediction is one number."""
        return self._plain

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The outputs, in order."""
        return self._outputs

    def predictions(self, scores: Matrix) -> list[Any]:
        """One prediction a row, for JSON: one output is its plain value, several are an object by name.

        Non-finite numbers stay as they are; the JSON writer makes them null.
        """
        if self._plain:
            if len(scores) == 1:
                return [scores.item()]
            plain: list[Any] = scores[:, 0].tolist()
            return plain
        columns = [self.column(scores, i) for i in range(len(self._outputs))]
        if self._single:
            return columns[0]
        names = [spec.name for spec in self._outputs]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def column(self, scores: Matrix, output: int) -> list[Any]:
        """One output's values a row: numbers, lists of numbers, or labels (None where the score is not finite)."""
        spec = self._outputs[output]
        start, stop = self._spans[output]
        block = scores[:, start:stop]
        if spec.kind == "label":
            classes = spec.classes
            return [classes[int(i)] if i == i else None for i in block[:, 0].tolist()]  # noqa: PLR0124 - NaN test
        if spec.kind == "value" and spec.width == 1:
            return block[:, 0].tolist()  # type: ignore[no-any-return] # numpy says Any
        return block.tolist()  # type: ignore[no-any-return] # numpy says Any


def non_finite_rows(scores: Matrix) -> NDArray[np.intp]:
    """Rows that hold a NaN or an infinity."""
    if scores.size == 1:  # the single predict: a numpy reduction would cost more than the model
        return _NONE if math.isfinite(scores.item()) else _FIRST
    finite = np.isfinite(scores)
    if finite.all():
        return _NONE
    return np.flatnonzero(~finite.all(axis=1))


def spread(values: Sequence[Any], places: NDArray[np.intp], total: int) -> list[Any]:
    """Values of the scored rows at their places among all rows, None elsewhere."""
    if len(values) == total:
        return list(values)
    out: list[Any] = [None] * total
    for place, value in zip(places.tolist(), values, strict=True):
        out[place] = value
    return out
