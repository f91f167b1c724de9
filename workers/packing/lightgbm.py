"""LightGBM models as packs: from the model text to its words.

The text is read once, quickly: the numbers of all trees are parsed together (`workers.packing.numerals`). Nothing it
says is believed: what is not as LightGBM writes it is refused here, what would lead a reader astray by the check of
the finished pack, and what a pack would answer otherwise by its proof.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.packing.blocks import CATEGORICAL, MIXED, NO_FEATURE, NO_TREE, PLAIN, UNKNOWN_KIND, weave
from workers.packing.layout import (
    EXP,
    IDENTITY,
    LOG1P_EXP,
    MOST_NODES,
    PLAIN_TREES,
    SIGMOID,
    SOFTMAX,
    SQUARE,
    TREES,
    NotPackableError,
    Parts,
    Probe,
    Words,
)
from workers.packing.numerals import floats, wholes

_TRANSFORMS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape"), IDENTITY),
    **dict.fromkeys(("lambdarank", "rank_xendcg", ""), IDENTITY),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), EXP),
    **dict.fromkeys(("binary", "cross_entropy", "multiclassova"), SIGMOID),
    "cross_entropy_lambda": LOG1P_EXP,
    "multiclass": SOFTMAX,
}
_WRONG: Final[Mapping[int, str]] = {
    NO_FEATURE: "it splits on a feature that it does not have",
    UNKNOWN_KIND: "a split has a decision_type that is unknown",
    NO_TREE: "a tree is not grown from its root",
}

# The lines of one tree that a pack needs, in LightGBM's order.
_NAMES: Final = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value")
_WHOLE: Final = ("split_feature", "decision_type", "left_child", "right_child")
_TREE: Final = re.compile(
    rb"\nsplit_feature=(.*)\nsplit_gain=.*" + b"".join(b"\n" + name.encode() + b"=(.*)" for name in _NAMES[1:])
)


class _Trees(NamedTuple):
    """All trees' numbers, one tree behind the other.

    Attributes:
        nodes: internal nodes of each tree.
        thresholds, leaves: float64, shapes (all nodes,) and (all leaves,).
        whole: int64, shape (4, all nodes), in the order of `_WHOLE`.
    """

    nodes: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    leaves: NDArray[np.float64]
    whole: NDArray[np.int64]


def read_lightgbm(text: bytes, inputs: Sequence[int]) -> tuple[Parts, Probe]:
    """The parts of a model text whose columns are bound to these positions of the signature.

    Raises:
        NotPackableError: saying what a pack cannot represent.
    """
    try:
        start = text.index(b"\nTree=") if b"\nTree=" in text else text.index(b"\nend of trees")
        header = _header(text[:start])
        trees = text[start : text.rindex(b"\nend of trees") + 1]
        return _parts(header, trees, np.array(inputs, dtype=np.int64))
    except (KeyError, ValueError, IndexError, OverflowError, TypeError) as error:
        raise NotPackableError("shape", f"the text is not as LightGBM writes it: {error!r}"[:200]) from error


def _header(text: bytes) -> Mapping[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in text.decode().split("\n"))}


def _parts(header: Mapping[str, str], text: bytes, inputs: NDArray[np.int64]) -> tuple[Parts, Probe]:
    outputs = int(header["num_class"])
    count = len(header["tree_sizes"].split())
    if int(header["num_tree_per_iteration"]) != outputs or not count or count % outputs:
        raise NotPackableError("shape", "its trees are not whole iterations of its outputs")
    transform, sigmoid = _transform(header.get("objective", ""), outputs)
    trees = _read_trees(text, count)
    categorical = trees.whole[1] & CATEGORICAL == 1
    first, sets = _first_words(text, trees, categorical)
    family, places, words = _woven(trees, first, inputs)
    parts = Parts(
        family=family,
        raw=outputs,
        count=count,
        places=places,
        blocks=words,
        sets=sets,
        transform=transform,
        scale=sigmoid,
        divisor=count // outputs if "average_output" in header else 0,
    )
    positions = inputs[trees.whole[0]]
    return parts, _probe(positions, np.where(categorical, np.nan, trees.thresholds))


def _read_trees(text: bytes, count: int) -> _Trees:
    if text.count(b"\nis_linear=0\n") != count:
        raise NotPackableError("linear_trees", "it has linear trees")
    found = _TREE.findall(text)
    if len(found) != count:
        raise NotPackableError("shape", "its trees have not the lines that LightGBM writes")
    lines = dict(zip(_NAMES, zip(*found, strict=True), strict=True))
    counts, numbers = floats([*lines["threshold"], *lines["leaf_value"]])
    nodes = counts[:count]
    if nodes.max() > MOST_NODES:
        raise NotPackableError("shape", "a tree has more leaves than a pack can number")
    total = int(nodes.sum())
    whole_counts, whole = wholes([line for name in _WHOLE for line in lines[name]])
    if (counts[count:] != nodes + 1).any() or (whole_counts.reshape(len(_WHOLE), count) != nodes).any():
        raise NotPackableError("shape", "its trees have not the nodes they name")
    thresholds = numbers[:total]
    if np.isnan(thresholds).any():
        raise NotPackableError("shape", "a threshold is no number")
    return _Trees(nodes, thresholds, numbers[total:], whole.reshape(len(_WHOLE), total))


def _transform(objective: str, outputs: int) -> tuple[int, float]:
    name, *given = objective.split(" ")
    if name not in _TRANSFORMS:
        raise NotPackableError("objective", f"its objective {name!r} is none that packs know")
    sigmoid = 1.0
    transform = _TRANSFORMS[name]
    for option in given:
        key, _, value = option.partition(":")
        if key == "sigmoid" and name != "cross_entropy":
            sigmoid = float(value)
        elif key == "sqrt" and name == "regression":
            transform = SQUARE
        elif key not in ("num_class", "tweedie_variance_power"):
            raise NotPackableError("objective", f"its objective has the option {option!r}")
    if transform == SOFTMAX and outputs < 2:
        raise NotPackableError("shape", "a multiclass model of one output")
    return transform, sigmoid


def _first_words(text: bytes, trees: _Trees, categorical: NDArray[np.bool_]) -> tuple[Words, NDArray[np.int64]]:
    """The nodes' first words, and the words of all category sets."""
    thresholds = trees.thresholds
    first: Words = thresholds.view(np.int64)
    if not categorical.any():
        return first, np.empty(0, dtype=np.int64)
    first = first.copy()
    blocks = text.split(b"\nTree=")[1:]
    bound_counts, bounds = wholes([_line(block, b"\ncat_boundaries=") for block in blocks])
    word_counts, words = wholes([_line(block, b"\ncat_threshold=") for block in blocks])
    bound_starts, word_starts = np.cumsum([0, *bound_counts]), np.cumsum([0, *word_counts])
    if len(words) and (words.min() < 0 or words.max() >> 32):
        raise NotPackableError("shape", "a category set has words of more than 32 bits")
    tree_of = np.repeat(np.arange(len(trees.nodes)), trees.nodes)
    for node in np.flatnonzero(categorical).tolist():
        tree = int(tree_of[node])
        own = bounds[bound_starts[tree] : bound_starts[tree + 1]]
        number = int(thresholds[node])
        if not 0 <= number < len(own) - 1:
            raise NotPackableError("shape", "a split names a category set that is not there")
        low, high = int(own[number]), int(own[number + 1])
        if not 0 <= low <= high <= word_counts[tree]:
            raise NotPackableError("shape", "a category set lies outside its tree's words")
        first[node] = (int(word_starts[tree]) + low) << 32 | (high - low)
    return first, words


def _line(block: bytes, mark: bytes) -> bytes:
    """A tree's line behind this mark, empty if there is none."""
    start = block.find(mark) + len(mark)
    return block[start : block.index(b"\n", start)] if start >= len(mark) else b""


def _woven(trees: _Trees, first: Words, inputs: NDArray[np.int64]) -> tuple[int, Words, Words]:
    """The family of the trees, each one's place, and the blocks of all."""
    places: Words = np.empty(len(trees.nodes), dtype=np.int64)
    blocks: Words = np.empty(3 * len(first) + len(places), dtype=np.int64)
    leaves = trees.leaves.view(np.int64)
    found = weave(trees.nodes, first, trees.whole, trees.thresholds, leaves, inputs, places, blocks)
    if found not in (PLAIN, MIXED):
        raise NotPackableError("shape", _WRONG[found])
    return TREES if found == MIXED else PLAIN_TREES, places, blocks


def _probe(positions: NDArray[np.int64], thresholds: NDArray[np.float64]) -> Probe:
    read = np.unique(positions).tolist()
    return Probe(tuple(read), {position: _numeric(thresholds[positions == position]) for position in read})


def _numeric(thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The thresholds of an input; none where a split goes by categories."""
    return thresholds[:0] if np.isnan(thresholds).any() else thresholds
