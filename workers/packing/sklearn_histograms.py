"""scikit-learn's histogram boosting as packs.

It compares float64 with float64 and sends missing values where training found best. Categorical columns pass through an
ordinal encoder, whose codes its splits then look up; a value that the encoder never saw is missing. A pack looks up a
category of text, or any of an integer or boolean input, by the encoder's code (`Pack.codes`), one of a float input by
its own value, which must then be a small whole number: codes would hide from the kernel that the encoder refuses what
is infinite.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from registry.signature import InputSpec
from workers.packing.layout import (
    CATEGORIES_OR_MISSING,
    EXP,
    IDENTITY,
    LABEL,
    LABEL_ABOVE_ZERO,
    LABEL_OF_RAW,
    MISSING_LEFT,
    NO_INFINITE,
    PLAIN_TREES,
    SIGMOID,
    SOFTMAX,
    SPECIAL,
    SPECIAL_LEFT,
    TREES,
    Codes,
    NotPackableError,
    Parts,
)
from workers.packing.sklearn_fitted import Fitted, Reading
from workers.packing.sklearn_trees import Tree, laid_out, probe_of

_LINKS: Final[Mapping[str, int]] = {"IdentityLink": IDENTITY, "LogLink": EXP}
_LOSSES: Final[Mapping[str, int]] = {"HalfBinomialLoss": SIGMOID, "HalfMultinomialLoss": SOFTMAX}
_MOST_DIRECT: Final = 1023  # the largest category that a set holds by its value: 32 words for a split


class _Columns(NamedTuple):
    """The columns as the trees number them.

    Attributes:
        positions: which input of the signature each is.
        bits: of each categorical column, what stands in a set for the encoder's codes.
        codes: of the inputs that are looked up by the encoder's codes.
        refuses: the inputs in which nothing may be infinite.
    """

    positions: Sequence[int]
    bits: Mapping[int, NDArray[np.int64]]
    codes: Codes
    refuses: Sequence[int]


def read_histograms(fitted: Fitted) -> Reading:
    """Histogram boosting, a regressor or a classifier."""
    estimator = fitted.estimator
    starts = estimator._baseline_prediction.ravel()  # noqa: SLF001 - there is no public name for what is fitted
    if starts.dtype != np.float64:
        raise NotPackableError("precision", "it begins with a float32")
    transform, label = _transform(estimator)
    columns = _columns(fitted)
    known, rows = estimator._bin_mapper.make_known_categories_bitsets()  # noqa: SLF001 - what its own predict asks
    sets: list[int] = []
    trees = []
    for iteration in estimator._predictors:  # noqa: SLF001 - as above
        if len(iteration) != len(starts):
            raise NotPackableError("shape", "it has not a tree for each of its numbers")
        trees += [_tree(predictor, columns, known[rows] if len(known) else known, sets) for predictor in iteration]
    places, blocks = laid_out(trees)
    parts = Parts(
        TREES if sets else PLAIN_TREES,
        len(starts),
        len(trees),
        places,
        blocks,
        np.array(sets, dtype=np.int64),
        transform=transform,
        refuses=NO_INFINITE if columns.refuses else 0,
        inputs=columns.refuses,
        starts=starts.tolist(),
    )
    return Reading(parts, probe_of(trees), label, columns.codes)


def _transform(estimator: Any) -> tuple[int, int]:
    """The transform, and the kind of label."""
    loss = estimator._loss  # noqa: SLF001 - what its own predict asks
    classifies = hasattr(estimator, "classes_")
    name = type(loss).__name__ if classifies else type(loss.link).__name__
    known = _LOSSES if classifies else _LINKS
    if name not in known:
        raise NotPackableError("objective", f"its loss {name} is none that packs know")
    if not classifies:
        return known[name], LABEL
    return known[name], LABEL_ABOVE_ZERO if known[name] == SIGMOID else LABEL_OF_RAW


def _columns(fitted: Fitted) -> _Columns:
    """The columns; what encodes categories is taken apart."""
    inputs = fitted.inputs
    preprocessor = fitted.estimator._preprocessor  # noqa: SLF001 - what its own predict asks
    if preprocessor is None:
        return _Columns(inputs, {}, (), ())
    (_, encoder, _), (_, numbers, _), *rest = preprocessor.transformers_
    if (
        type(encoder).__name__ != "OrdinalEncoder"
        or type(numbers).__name__ != "FunctionTransformer"
        or any(step != "drop" for _, step, _ in rest)
    ):
        raise NotPackableError("estimator", "it prepares its columns in an unknown way")
    taken = preprocessor._transformer_to_input_indices  # noqa: SLF001 - the columns by number, however they are named
    encoded, plain = list(taken["encoder"]), list(taken["numerical"])
    bits, codes, refuses = {}, [], []
    for column, (index, categories) in enumerate(zip(encoded, encoder.categories_, strict=True)):
        spec, position = fitted.specs[index], inputs[index]
        values = list(categories)
        if spec.dtype in ("string", "int64", "bool"):
            codes.append((position, _codes(values, spec)))
            bits[column] = np.arange(len(values))
        else:
            bits[column] = _direct(values)
            refuses.append(position)
    return _Columns([inputs[index] for index in encoded + plain], bits, codes, refuses)


def _codes(values: Sequence[Any], spec: InputSpec) -> Mapping[Any, int]:
    """The encoder's codes of texts, or of whole numbers; what is no such value cannot occur."""
    if spec.dtype == "string":
        return {str(value): code for code, value in enumerate(values) if isinstance(value, str)}
    if any(isinstance(value, str) for value in values):
        raise NotPackableError("shape", "it knows categories of text in an input of numbers")
    numbers = [(code, np.asarray(value).item()) for code, value in enumerate(values) if value is not None]
    return {int(value): code for code, value in numbers if not isinstance(value, float) or value.is_integer()}


def _direct(values: Sequence[Any]) -> NDArray[np.int64]:
    """The categories themselves, 0 for a missing one, which is never looked up."""
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    present = numbers[~np.isnan(numbers)]
    if ((present != np.floor(present)) | (present < 0) | (present > _MOST_DIRECT)).any():
        raise NotPackableError("shape", "its categories are no small whole numbers")
    return np.nan_to_num(numbers).astype(np.int64)


def _tree(predictor: Any, columns: _Columns, known: NDArray[np.uint32], sets: list[int]) -> Tree:
    """One tree; the sets of its categorical splits are appended to `sets`, their places being in the nodes."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"] != 0
    column = np.where(leaf, 0, nodes["feature_idx"])
    left_missing = nodes["missing_go_to_left"] != 0
    first = np.ascontiguousarray(nodes["num_threshold"]).view(np.int64).copy()
    flags = np.where(left_missing, MISSING_LEFT, 0).astype(np.int64)
    for node in np.flatnonzero((nodes["is_categorical"] != 0) & ~leaf).tolist():
        flags[node] = SPECIAL | CATEGORIES_OR_MISSING | (SPECIAL_LEFT if left_missing[node] else 0)
        at = int(column[node])
        bits = columns.bits[at]
        words = int(bits.max(initial=0)) // 32 + 1
        chosen = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]]
        first[node] = len(sets) << 32 | words
        sets += _set(chosen, bits, words) + _set(known[at], bits, words)
    return Tree(
        leaf=leaf,
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        position=np.array(columns.positions, dtype=np.int64)[column],
        first=first,
        flags=flags,
        values=nodes["value"][leaf][:, None],
    )


def _set(of_codes: NDArray[np.uint32], bits: NDArray[np.int64], words: int) -> list[int]:
    """A set of the encoder's codes as a set of what stands for them."""
    number = 0
    for code, bit in enumerate(bits.tolist()):
        if int(of_codes[code >> 5]) >> (code & 31) & 1:
            number |= 1 << bit
    return [number >> 32 * word & 0xFFFFFFFF for word in range(words)]
