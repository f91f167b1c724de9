"""scikit-learn's trees, forests and gradient boosting as packs.

All of them read their inputs as float32 and compare them with float64 thresholds. They refuse what is infinite or too
wide for a float32 in any of their columns, read or not, and missing values unless their trees know where to send them.
Forests average their trees; gradient boosting adds its trees, each times the learning rate, to what its initial
estimator says. (Histogram boosting is `workers.packing.sklearn_histograms`.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.packing.layout import (
    IDENTITY,
    LABEL,
    LABEL_FROM_ZERO,
    LABEL_OF_RAW,
    MISSING_LEFT,
    MOST_NODES,
    NARROW_TREES,
    NO_INFINITE,
    NO_MISSING,
    NO_WIDE,
    SIGMOID,
    SOFTMAX,
    NotPackableError,
    Parts,
    Probe,
    Words,
)
from workers.packing.sklearn_fitted import Fitted, Reading

# What the losses of gradient boosting make of a raw number: a transform, and the sigmoid's factor.
_LINKS: Final[Mapping[str, tuple[int, float]]] = {
    "HalfBinomialLoss": (SIGMOID, 1.0),
    "ExponentialLoss": (SIGMOID, 2.0),
    "HalfMultinomialLoss": (SOFTMAX, 1.0),
}
_CONSTANT_INITIALS: Final = frozenset({"DummyRegressor", "DummyClassifier"})
_RANDOM_STRATEGIES: Final = frozenset({"stratified", "uniform"})


class Tree(NamedTuple):
    """One tree, its nodes in any order that puts children behind their parent, the root first.

    Attributes:
        leaf: which nodes are leaves, bool.
        left, right: node numbers of the children; those of leaves mean nothing.
        position: which input of the signature a node reads.
        first: first words of the nodes, int64.
        flags: of the nodes.
        values: of the leaves in the nodes' order, float64, shape (leaves, numbers).
    """

    leaf: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    position: NDArray[np.int64]
    first: Words
    flags: NDArray[np.int64]
    values: NDArray[np.float64]


def read_tree(fitted: Fitted) -> Reading:
    """A single tree."""
    return _averaged(fitted, [fitted.estimator], 0)


def read_forest(fitted: Fitted) -> Reading:
    """A forest: the mean of its trees."""
    trees = list(fitted.estimator.estimators_)
    return _averaged(fitted, trees, len(trees))


def read_boosting(fitted: Fitted) -> Reading:
    """Gradient boosting (not by histograms)."""
    estimator = fitted.estimator
    stages = estimator.estimators_
    starts = _initial(estimator)
    if stages.shape[1] != len(starts):
        raise NotPackableError("shape", "it has not a tree for each of its numbers")
    transform, scale, label = _link(estimator) if hasattr(estimator, "classes_") else (IDENTITY, 1.0, LABEL)
    rate = float(estimator.learning_rate)
    trees = [_tree(one, fitted, lambda values: rate * values[:, :, 0]) for one in stages.ravel().tolist()]
    parts = _parts(fitted, trees, len(starts), leaf=1, refuses=NO_MISSING | NO_INFINITE | NO_WIDE)
    parts = replace(parts, transform=transform, scale=scale, starts=starts)
    return Reading(parts, probe_of(trees), label)


def laid_out(trees: Sequence[Tree]) -> tuple[Words, Words]:
    """Each tree's place and all trees' blocks, as `Parts` wants them.

    Raises:
        NotPackableError: if a tree has more than a pack can number, or is none.
    """
    places, blocks, at = [], [], 0
    for tree in trees:
        block = _block(tree)
        places.append(at | (len(tree.leaf) - int(tree.leaf.sum())) << 32)
        blocks.append(block)
        at += len(block)
    return np.array(places, dtype=np.int64), np.concatenate(blocks)


def probe_of(trees: Sequence[Tree]) -> Probe:
    """Where trees decide; an input that a special node reads has no thresholds."""
    inner = [~tree.leaf for tree in trees]
    positions = np.concatenate([tree.position[nodes] for tree, nodes in zip(trees, inner, strict=True)])
    firsts = np.concatenate([tree.first[nodes] for tree, nodes in zip(trees, inner, strict=True)])
    plain = np.concatenate([tree.flags[nodes] <= MISSING_LEFT for tree, nodes in zip(trees, inner, strict=True)])
    thresholds = firsts.view(np.float64)
    read = np.unique(positions).tolist()
    return Probe(tuple(read), {position: np.unique(thresholds[(positions == position) & plain]) for position in read})


def _block(tree: Tree) -> Words:
    """A tree's nodes, then its leaves."""
    nodes = len(tree.leaf)
    inner = np.flatnonzero(~tree.leaf)
    if len(inner) > MOST_NODES or nodes != 2 * len(inner) + 1:
        raise NotPackableError("shape", "a tree has more nodes than a pack can number, or is none")
    # What a node is called in the pack: its number among the inner ones, of a leaf ~its number among the leaves.
    called = np.where(tree.leaf, ~(np.cumsum(tree.leaf) - 1), np.cumsum(~tree.leaf) - 1)
    left, right = tree.left[inner], tree.right[inner]
    if len(inner) and (min(left.min(), right.min()) < 1 or max(left.max(), right.max()) >= nodes):
        raise NotPackableError("shape", "a tree is not grown from its root")
    second = called[left] & 0xFFFF | (called[right] & 0xFFFF) << 16 | tree.position[inner] << 32
    block: Words = np.empty(2 * len(inner) + tree.values.size, dtype=np.int64)
    block[0 : 2 * len(inner) : 2] = tree.first[inner]
    block[1 : 2 * len(inner) : 2] = second | tree.flags[inner] << 48
    block[2 * len(inner) :] = np.ascontiguousarray(tree.values, dtype=np.float64).ravel().view(np.int64)
    return block


def _averaged(fitted: Fitted, estimators: Sequence[Any], divisor: int) -> Reading:
    """The mean of trees (a divisor of 0 leaves the sum as it is)."""
    estimator = fitted.estimator
    classes = len(estimator.classes_) if hasattr(estimator, "classes_") else 0

    def numbers(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[:, 0, :classes] if classes else values[:, :, 0]

    trees = [_tree(one, fitted, numbers) for one in estimators]
    raw = trees[0].values.shape[1]
    if any(tree.values.shape[1] != raw for tree in trees):
        raise NotPackableError("shape", "its trees answer different numbers")
    missing = bool(estimators[0]._support_missing_values(np.empty((0, len(fitted.inputs)))))  # noqa: SLF001 - what its own input validation asks
    refuses = NO_INFINITE | NO_WIDE | (0 if missing else NO_MISSING)
    parts = replace(_parts(fitted, trees, raw, leaf=raw, refuses=refuses), divisor=divisor)
    return Reading(parts, probe_of(trees))


def _parts(fitted: Fitted, trees: Sequence[Tree], raw: int, *, leaf: int, refuses: int) -> Parts:
    if fitted.framed and any(spec.dtype == "int64" for spec in fitted.specs):
        raise NotPackableError("precision", "it rounds integers to float32 that a pack has as float64")
    places, blocks = laid_out(trees)
    sets: Words = np.empty(0, dtype=np.int64)
    return Parts(
        NARROW_TREES, raw, len(trees), places, blocks, sets, leaf=leaf, refuses=refuses, inputs=tuple(fitted.inputs)
    )


def _tree(estimator: Any, fitted: Fitted, numbers: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Tree:
    """One tree; `numbers` are what a leaf's values, shape (leaves, outputs, classes), add to the raw numbers."""
    state = estimator.tree_.__getstate__()
    nodes, values = state["nodes"], state["values"]
    if nodes.dtype.names[:4] != ("left_child", "right_child", "feature", "threshold"):
        raise NotPackableError("shape", "its trees are none that packs know")
    leaf = nodes["left_child"] == -1
    feature = np.where(leaf, 0, nodes["feature"])
    if feature.min() < 0 or feature.max() >= len(fitted.inputs):
        raise NotPackableError("shape", "a tree splits on a feature that it does not have")
    return Tree(
        leaf=leaf,
        left=nodes["left_child"],
        right=nodes["right_child"],
        position=np.array(fitted.inputs, dtype=np.int64)[feature],
        first=np.ascontiguousarray(nodes["threshold"]).view(np.int64),
        flags=np.where(nodes["missing_go_to_left"] != 0, MISSING_LEFT, 0).astype(np.int64),
        values=numbers(values[leaf]),
    )


def _link(estimator: Any) -> tuple[int, float, int]:
    """Transform, factor and kind of label of a classifier."""
    loss = type(estimator._loss).__name__  # noqa: SLF001 - what its own predict_proba asks
    if loss not in _LINKS:
        raise NotPackableError("objective", f"its loss {loss} is none that packs know")
    transform, scale = _LINKS[loss]
    return transform, scale, LABEL_OF_RAW if transform == SOFTMAX else LABEL_FROM_ZERO


def _initial(estimator: Any) -> list[float]:
    """What the raw numbers begin with, where that is the same for every row."""
    initial = estimator.init_
    name = type(initial).__name__
    zero = isinstance(initial, str) and initial == "zero"
    if not zero and (name not in _CONSTANT_INITIALS or initial.strategy in _RANDOM_STRATEGIES):
        raise NotPackableError("estimator", f"its initial estimator {name} is no constant")
    row = np.zeros((1, estimator.n_features_in_), dtype=np.float32)
    starts: list[float] = estimator._raw_predict_init(row)[0].tolist()  # noqa: SLF001 - what its own predict begins with
    return starts
