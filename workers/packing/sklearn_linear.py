"""scikit-learn's linear models, and pipelines that end in one, as packs.

Each input becomes one term: the operations that the pipeline does on it, and its coefficients; an encoded input becomes
a table from its categories to the sums of coefficients that their indicators make. A sum's order is the pack's own, not
that of the linear algebra library, so answers agree to rounding: about 1e-15 of the terms that were added.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.packing.layout import (
    EXP,
    IDENTITY,
    LABEL_ABOVE_ZERO,
    LABEL_OF_RAW,
    LINEAR,
    SIGMOID,
    SIGMOID_SHARES,
    SOFTMAX,
    Codes,
    NotPackableError,
    Parts,
    Probe,
)
from workers.packing.linear import (
    ADD,
    DIVIDE,
    IMPUTE,
    MULTIPLY,
    NO_INFINITY,
    SUBTRACT,
    Operation,
    Term,
    laid_out,
)
from workers.packing.sklearn_columns import (
    Columns,
    Encoded,
    Indicator,
    Number,
    Text,
    columns_of,
    transformed,
)
from workers.packing.sklearn_fitted import Fitted, Reading

_REGRESSORS: Final = frozenset(
    {
        "LinearRegression",
        "Ridge",
        "RidgeCV",
        "Lasso",
        "LassoCV",
        "ElasticNet",
        "ElasticNetCV",
        "MultiTaskLasso",
        "MultiTaskElasticNet",
        "Lars",
        "LarsCV",
        "LassoLars",
        "LassoLarsCV",
        "LassoLarsIC",
        "BayesianRidge",
        "ARDRegression",
        "SGDRegressor",
        "PassiveAggressiveRegressor",
        "HuberRegressor",
        "QuantileRegressor",
        "TheilSenRegressor",
        "OrthogonalMatchingPursuit",
        "OrthogonalMatchingPursuitCV",
        "LinearSVR",
    }
)
_GENERALIZED: Final = frozenset({"PoissonRegressor", "GammaRegressor", "TweedieRegressor"})
_LINKS: Final[Mapping[str, int]] = {"IdentityLink": IDENTITY, "LogLink": EXP}
_LOGISTIC: Final = frozenset({"LogisticRegression", "LogisticRegressionCV"})
_CLASSIFIERS: Final = frozenset(
    {
        "RidgeClassifier",
        "RidgeClassifierCV",
        "SGDClassifier",
        "Perceptron",
        "PassiveAggressiveClassifier",
        "LinearSVC",
    }
)

# After these an infinite value is still infinite: it is refused at the end as it would be between them.
_KEEP_INFINITY: Final = frozenset({IMPUTE, SUBTRACT, DIVIDE, MULTIPLY, ADD, NO_INFINITY})
_TYPICAL: Final = np.array([-3.0, -2.0, -1.0, -0.3, 0.0, 0.1, 0.7, 1.0, 2.0, 5.0])


def read_linear(fitted: Fitted) -> Reading:
    """A linear model, or a pipeline of transformers and one.

    Raises:
        NotPackableError: if it is none, or one that a pack does not represent.
    """
    columns = columns_of(fitted.inputs, fitted.specs, framed=fitted.framed)
    estimator = fitted.estimator
    while type(estimator).__name__ == "Pipeline":
        for _, step in estimator.steps[:-1]:
            columns = transformed(step, columns)
        estimator = estimator.steps[-1][1]
    transform, label = _answers(estimator, shares=fitted.shares)
    weights, starts = _weights(estimator, columns)
    if label == LABEL_OF_RAW and len(starts) == 1:
        label = LABEL_ABOVE_ZERO
    codes = _codes(columns)
    terms, base = _terms(columns, weights, dict(codes))
    parts = Parts(
        LINEAR,
        len(starts),
        len(terms),
        laid_out(terms),
        np.empty(0, dtype=np.int64),
        np.empty(0, dtype=np.int64),
        transform=transform if transform != SIGMOID_SHARES or len(starts) > 1 else SIGMOID,
        starts=(starts + base).tolist(),
    )
    return Reading(parts, _probe(terms), label, codes)


def _answers(estimator: Any, *, shares: bool) -> tuple[int, int]:
    """The transform, and how a class is decided on."""
    name = type(estimator).__name__
    if name in _REGRESSORS:
        return IDENTITY, LABEL_OF_RAW
    if name in _GENERALIZED:
        link = type(estimator._base_loss.link).__name__  # noqa: SLF001 - what its own predict asks
        if link not in _LINKS:
            raise NotPackableError("objective", f"its link {link} is none that packs know")
        return _LINKS[link], LABEL_OF_RAW
    if name in _LOGISTIC:
        return SIGMOID if len(estimator.classes_) == 2 else SOFTMAX, LABEL_OF_RAW
    if name not in _CLASSIFIERS:
        raise NotPackableError("estimator", f"a {name} has no pack")
    if not shares:
        return IDENTITY, LABEL_OF_RAW
    if name != "SGDClassifier" or estimator.loss != "log_loss":
        raise NotPackableError("objective", f"the probabilities of a {name} are none that packs know")
    return SIGMOID_SHARES, LABEL_OF_RAW


def _weights(estimator: Any, columns: Columns) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients, shape (columns, raw), and intercepts, shape (raw,)."""
    weights = estimator.coef_
    if not isinstance(weights, np.ndarray) or weights.dtype != np.float64:
        raise NotPackableError("precision", "its coefficients are no float64")
    weights = np.atleast_2d(weights).T
    starts = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float64), (weights.shape[1],))
    if len(weights) != len(columns.kept) or not (np.isfinite(weights).all() and np.isfinite(starts).all()):
        raise NotPackableError("shape", "it has not a finite coefficient for each of its columns")
    if hasattr(estimator, "classes_") and weights.shape[1] == 1 != len(estimator.classes_) - 1:
        raise NotPackableError("shape", "it has one decision for more or less than two classes")
    return weights, starts


def _codes(columns: Columns) -> Codes:
    """Of each text input that is looked up a code for every category that any encoder knows, and for a missing one."""
    known: dict[int, dict[Any, int]] = {}
    for encoded in _encodings(columns):
        if isinstance(encoded.source, Text):
            codes = known.setdefault(encoded.source.position, {None: 0})
            for category in encoded.categories:
                if isinstance(category, str):
                    codes.setdefault(category, len(codes))
    return tuple(known.items())


def _encodings(columns: Columns) -> list[Encoded]:
    """Each encoded column once."""
    every = [column.encoded for column in columns.kept if isinstance(column, Indicator)]
    every += [column for column in columns.seen if isinstance(column, Encoded)]
    return list({id(encoded): encoded for encoded in every}.values())


def _terms(
    columns: Columns, weights: NDArray[np.float64], codes: Mapping[int, Mapping[Any, int]]
) -> tuple[list[Term], NDArray[np.float64]]:
    """All terms, and what indicators that are off add to the intercepts."""
    base = np.zeros(weights.shape[1])
    tables = {id(encoded): np.zeros((len(encoded.categories), weights.shape[1])) for encoded in _encodings(columns)}
    terms = []
    for column, own in zip(columns.kept, weights, strict=True):
        if isinstance(column, Text):
            raise NotPackableError("shape", "it computes with a text")
        if isinstance(column, Number):
            terms.append(Term(column.position, _needed(column.operations), own))
            continue
        if not (np.isfinite(column.off) and np.isfinite(column.on)):
            raise NotPackableError("shape", "an indicator becomes infinite")
        base += column.off * own
        tables[id(column.encoded)][column.category] += (column.on - column.off) * own
    terms += [_table(encoded, tables[id(encoded)], codes) for encoded in _encodings(columns)]
    empty = np.empty((0, weights.shape[1]))
    dropped = [column for column in columns.seen if isinstance(column, Number)]
    terms += [Term(column.position, column.operations, empty, np.empty(0)) for column in dropped]
    return terms, base


def _table(encoded: Encoded, weights: NDArray[np.float64], codes: Mapping[int, Mapping[Any, int]]) -> Term:
    source = encoded.source
    if isinstance(source, Number):
        entries = np.array(encoded.categories, dtype=np.float64)
        return Term(source.position, source.operations, weights, entries, encoded.refuses)
    code = codes[source.position]
    found = {code[category]: row for row, category in enumerate(encoded.categories) if isinstance(category, str)}
    # A missing text is what the imputer fills in, or the category NaN.
    missing = [
        row
        for row, category in enumerate(encoded.categories)
        if (category == source.filled if source.filled is not None else category != category)  # noqa: PLR0124 - NaN
    ]
    if missing:
        found[code[None]] = missing[0]
    entries = np.array(list(found), dtype=np.float64)
    return Term(source.position, (), weights[list(found.values())], entries, encoded.refuses)


def _needed(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations of a number without the checks for infinity that its own end makes needless."""
    kept: list[Operation] = []
    for operation in reversed(operations):
        code, operand = operation
        plain = all(later in _KEEP_INFINITY for later, _ in kept)
        finite = all(np.isfinite(of) and (of != 0.0 or later not in (MULTIPLY, DIVIDE)) for later, of in kept)
        if code == NO_INFINITY and plain and finite:
            continue
        if code == NO_INFINITY and kept and kept[-1][0] == NO_INFINITY:
            continue
        kept.append((code, operand))
    return tuple(reversed(kept))


def _probe(terms: Sequence[Term]) -> Probe:
    """Typical values of each input: around what is subtracted, in steps of what it is divided by; all categories."""
    values: dict[int, list[NDArray[np.float64]]] = {}
    for term in terms:
        own = values.setdefault(term.position, [])
        if term.entries is not None and len(term.entries):
            own.append(term.entries[np.isfinite(term.entries)])
            continue
        operands = dict(term.operations)
        centre, step = operands.get(SUBTRACT, operands.get(IMPUTE, 0.0)), operands.get(DIVIDE, 1.0)
        if MULTIPLY in operands:
            step = 1.0 / operands[MULTIPLY]
            centre = -operands.get(ADD, 0.0) * step
        own.append(centre + _TYPICAL * step)
    return Probe(tuple(sorted(values)), {position: np.unique(np.concatenate(own)) for position, own in values.items()})
