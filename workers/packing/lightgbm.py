"""LightGBM models as packs: from the model text to its words.

The text is read once, quickly: the numbers of all trees are parsed together, array by array. Nothing it says is
believed: what is not as LightGBM writes it is refused here, what would lead a reader astray by the check of the
finished pack, and what a pack would answer otherwise by its proof.
"""

import re
from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from workers.packing.layout import (
    EXP,
    IDENTITY,
    LOG1P_EXP,
    MISSING_LEFT,
    MOST_NODES,
    SIGMOID,
    SOFTMAX,
    SPECIAL,
    SQUARE,
    TREES,
    ZERO,
    NotPackableError,
    Parts,
    Probe,
    Words,
)

_TRANSFORMS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape"), IDENTITY),
    **dict.fromkeys(("lambdarank", "rank_xendcg", ""), IDENTITY),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), EXP),
    **dict.fromkeys(("binary", "cross_entropy", "multiclassova"), SIGMOID),
    "cross_entropy_lambda": LOG1P_EXP,
    "multiclass": SOFTMAX,
}
_CATEGORICAL, _DEFAULT_LEFT, _AS_ZERO, _NAN = 1, 2, 4, 8  # bits of decision_type


# The lines of one tree that a pack needs, in LightGBM's order.
_NAMES: Final = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value")
_TREE: Final = re.compile(
    rb"\nsplit_feature=(.*)\nsplit_gain=.*" + b"".join(b"\n" + name.encode() + b"=(.*)" for name in _NAMES[1:])
)


class _Trees(NamedTuple):
    """All trees' arrays, one behind the other, and how many internal nodes each tree has."""

    nodes: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]


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
    count = text.count(b"\nTree=")
    if int(header["num_tree_per_iteration"]) != outputs or not count or count % outputs:
        raise NotPackableError("shape", "its trees are not whole iterations of its outputs")
    transform, sigmoid = _transform(header.get("objective", ""), outputs)
    trees = _read_trees(text, count)
    columns = trees.arrays["split_feature"]
    if len(columns) and (columns.min() < 0 or columns.max() >= len(inputs)):
        raise NotPackableError("shape", "it splits on a feature that it does not have")
    positions = inputs[columns]
    categorical = trees.arrays["decision_type"] & _CATEGORICAL == 1
    first, sets = _first_words(text, trees, categorical)
    second = _second_words(trees, positions)
    places, words = _laid_out(trees, first, second)
    parts = Parts(
        family=TREES,
        raw=outputs,
        count=count,
        places=places,
        blocks=words,
        sets=sets,
        transform=transform,
        scale=sigmoid,
        divisor=count // outputs if "average_output" in header else 0,
    )
    return parts, _probe(positions, np.where(categorical, np.nan, trees.arrays["threshold"]))


def _read_trees(text: bytes, count: int) -> _Trees:
    if text.count(b"\nis_linear=0\n") != count:
        raise NotPackableError("linear_trees", "it has linear trees")
    found = _TREE.findall(text)
    if len(found) != count:
        raise NotPackableError("shape", "its trees have not the lines that LightGBM writes")
    lines = dict(zip(_NAMES, zip(*found, strict=True), strict=True))
    leaves, leaf_values = _numbers(lines["leaf_value"], "d")
    nodes = np.array(leaves) - 1
    if nodes.min() < 0 or nodes.max() > MOST_NODES:
        raise NotPackableError("shape", "a tree has more leaves than a pack can number")
    arrays: dict[str, NDArray[Any]] = {"leaf_value": leaf_values}
    for name in _NAMES[:-1]:
        counts, arrays[name] = _numbers(lines[name], "d" if name == "threshold" else "q")
        if counts != nodes.tolist():
            raise NotPackableError("shape", "its trees have not the nodes they name")
    if np.isnan(arrays["threshold"]).any():
        raise NotPackableError("shape", "a threshold is no number")
    return _Trees(nodes, arrays)


def _numbers(lines: Sequence[bytes], kind: str) -> tuple[list[int], NDArray[Any]]:
    """How many numbers each tree's line has, and all of them; `kind` is `d` for float64, `q` for int64."""
    try:
        # Exact, and several times quicker than float().
        lists = orjson.loads(b"[[" + b"],[".join(lines).replace(b" ", b",") + b"]]")
    except orjson.JSONDecodeError:
        read = float if kind == "d" else int
        lists = [[read(number) for number in line.split()] for line in lines]
    flat = array(kind, chain.from_iterable(lists))
    return list(map(len, lists)), np.frombuffer(flat, dtype=np.float64 if kind == "d" else np.int64)


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
    thresholds = trees.arrays["threshold"]
    first: Words = thresholds.view(np.int64)
    if not categorical.any():
        return first, np.empty(0, dtype=np.int64)
    first = first.copy()
    blocks = text.split(b"\nTree=")[1:]
    bound_counts, bounds = _numbers([_line(block, b"\ncat_boundaries=") for block in blocks], "q")
    word_counts, words = _numbers([_line(block, b"\ncat_threshold=") for block in blocks], "q")
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


def _second_words(trees: _Trees, positions: NDArray[np.int64]) -> Words:
    """The nodes' second words: children, input and flags.

    A node whose decision is a plain comparison, NaN going one known way, is flagged so; LightGBM's other rules (zero
    is missing, nearly zero is zero, categories) are special.
    """
    kinds, thresholds = trees.arrays["decision_type"], trees.arrays["threshold"]
    if ((kinds < 0) | (kinds > 15) | (kinds >> 2 == 3)).any():
        raise NotPackableError("shape", "a split has a decision_type that is unknown")
    special = (kinds & (_CATEGORICAL | _AS_ZERO) != 0) | ((thresholds >= -ZERO) & (thresholds < ZERO))
    missing_left = np.where(kinds & _NAN, kinds & _DEFAULT_LEFT != 0, thresholds >= 0.0)
    flags = np.where(special, kinds | SPECIAL, missing_left * MISSING_LEFT)
    left, right = trees.arrays["left_child"], trees.arrays["right_child"]
    if len(left) and (min(left.min(), right.min()) < -MOST_NODES - 1 or max(left.max(), right.max()) > MOST_NODES):
        raise NotPackableError("shape", "a tree is not grown from its root")
    second: Words = (left & 0xFFFF) | (right & 0xFFFF) << 16 | positions << 32 | flags << 48
    return second


def _laid_out(trees: _Trees, first: Words, second: Words) -> tuple[Words, Words]:
    """Each tree's place and all trees' blocks: a tree's nodes, then its leaves."""
    nodes = trees.nodes
    starts = np.cumsum(3 * nodes + 1) - (3 * nodes + 1)
    first_nodes = np.cumsum(nodes) - nodes
    blocks: Words = np.empty(int((3 * nodes + 1).sum()), dtype=np.int64)
    at = np.repeat(starts - 2 * first_nodes, nodes) + 2 * np.arange(len(first))
    blocks[at] = first
    blocks[at + 1] = second
    leaves = trees.arrays["leaf_value"]
    # The leaves of the trees before it are as many as their nodes and the trees themselves.
    leaf_starts = starts + 2 * nodes - first_nodes - np.arange(len(nodes))
    blocks[np.repeat(leaf_starts, nodes + 1) + np.arange(len(leaves))] = leaves.view(np.int64)
    return starts | nodes << 32, blocks


def _probe(positions: NDArray[np.int64], thresholds: NDArray[np.float64]) -> Probe:
    read = np.unique(positions).tolist()
    return Probe(tuple(read), {position: _numeric(thresholds[positions == position]) for position in read})


def _numeric(thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The thresholds of an input; none where a split goes by categories."""
    return thresholds[:0] if np.isnan(thresholds).any() else thresholds
