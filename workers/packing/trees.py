"""Tree packs: the trees of a LightGBM model as one run of 64-bit words that a kernel walks by address.

A native model scatters its trees over hundreds of small allocations; when every row asks another model, fetching them
costs more than walking them. A pack holds what a prediction reads and nothing else, a fifth of the native bytes:

    word 0 trees | 1 outputs | 2 transform | 3 sigmoid (float64) | 4, 5, 6 bytes from the start to the nodes, leaves
    and sets | 7 iterations to average over (0: none) | a word a tree: its first node << 32 | its first leaf |
    nodes of two words | leaves (float64) | sets of categories

A node's first word is its threshold (float64), or for a categorical split the first word of its set << 32 | 32-bit
words in it; the second is left child | right child << 16 | input << 32 | LightGBM's decision_type << 48. Children
are counted within the tree, 16 bits, a leaf as ~number. A tree of one leaf has -1 for its first node. An input is the
position in the group's signature, so a pack reads the rows of a call as they lie.

Pure functions. Whatever is not understood exactly is refused with its reason, and such a model stays native.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]

HEAD_WORDS: Final = 8
NODE_WORDS: Final = 2
MOST_INPUTS: Final = 1 << 15
MOST_LEAVES: Final = 1 << 15

# How raw sums become answers: `ConvertOutput` of LightGBM's objectives (src/objective/*.hpp, version 4).
IDENTITY, EXP, SIGMOID, SQUARE, LOG1P_EXP, SOFTMAX = range(6)
_TRANSFORMS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape"), IDENTITY),
    **dict.fromkeys(("lambdarank", "rank_xendcg", ""), IDENTITY),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), EXP),
    **dict.fromkeys(("binary", "cross_entropy", "multiclassova"), SIGMOID),
    "cross_entropy_lambda": LOG1P_EXP,
    "multiclass": SOFTMAX,
}
_ARRAYS: Final[Mapping[str, Any]] = {
    "split_feature": np.int64,
    "threshold": np.float64,
    "decision_type": np.int64,
    "left_child": np.int64,
    "right_child": np.int64,
    "leaf_value": np.float64,
    "cat_boundaries": np.int64,
    "cat_threshold": np.int64,
}


class NotPackableError(Exception):
    """The model is none that a pack represents exactly; the text says why. Never reaches a caller of the service."""


class TreePack(NamedTuple):
    """A pack and what its proof needs to know of it.

    Attributes:
        words: int64, shape (words,), C-contiguous.
        inputs: positions in the signature that the trees split on, one a node.
        thresholds: float64, one a node; of a categorical split NaN.
    """

    words: Words
    inputs: NDArray[np.int64]
    thresholds: NDArray[np.float64]


class _Trees(NamedTuple):
    """All trees' arrays, one behind the other, and how many nodes and leaves each tree has."""

    nodes: NDArray[np.int64]
    leaves: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]
    set_starts: Sequence[int]  # first cat_boundaries entry of each tree
    word_starts: Sequence[int]  # first cat_threshold entry of each tree


def pack_lightgbm(text: bytes, inputs: Sequence[int]) -> TreePack:
    """Pack a model text whose columns are bound to these positions of the signature.

    Raises:
        NotPackableError: saying what a pack cannot represent.
    """
    try:
        blocks = text[: text.rindex(b"\nend of trees")].decode().split("\nTree=")
        header = _lines(blocks[0])
        trees = _read_trees([_lines(block) for block in blocks[1:]])
        return _packed(header, trees, np.array(inputs, dtype=np.int64))
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise NotPackableError(f"the text is not as LightGBM writes it: {error!r}"[:200]) from error


def _lines(block: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in block.split("\n"))}


def _read_trees(blocks: Sequence[Mapping[str, str]]) -> _Trees:
    if not blocks:
        raise NotPackableError("it has no trees")
    if any(block.get("is_linear", "0") != "0" for block in blocks):
        raise NotPackableError("it has linear trees")
    leaves = np.array([int(block["num_leaves"]) for block in blocks])
    sets = [int(block["num_cat"]) for block in blocks]
    arrays: dict[str, NDArray[Any]] = {}
    counts: dict[str, list[int]] = {}
    for name, dtype in _ARRAYS.items():
        texts = [block.get(name, "").split() for block in blocks]
        counts[name] = list(map(len, texts))
        arrays[name] = np.array([item for items in texts for item in items], dtype=dtype)
    nodes = leaves - 1
    if leaves.min() < 1 or leaves.max() > MOST_LEAVES or counts["leaf_value"] != leaves.tolist():
        raise NotPackableError("its trees have not the leaves they name")
    if any(counts[name] != nodes.tolist() for name in list(_ARRAYS)[:5]):
        raise NotPackableError("its trees have not the nodes they name")
    if counts["cat_boundaries"] != [count and count + 1 for count in sets]:
        raise NotPackableError("its trees have not the category sets they name")
    set_starts = list(accumulate(counts["cat_boundaries"], initial=0))
    word_starts = list(accumulate(counts["cat_threshold"], initial=0))
    return _Trees(nodes, leaves, arrays, set_starts, word_starts)


def _packed(header: Mapping[str, str], trees: _Trees, inputs: NDArray[np.int64]) -> TreePack:
    outputs = int(header["num_class"])
    if int(header["num_tree_per_iteration"]) != outputs or len(trees.nodes) % outputs:
        raise NotPackableError("its trees are not whole iterations of its outputs")
    transform, sigmoid = _transform(header.get("objective", ""), outputs)
    columns = trees.arrays["split_feature"]
    if len(columns) and (columns.min() < 0 or columns.max() >= len(inputs)):
        raise NotPackableError("it splits on a feature that it does not have")
    if len(inputs) and inputs.max() >= MOST_INPUTS:
        raise NotPackableError("the signature is too wide")
    _check_children(trees)
    positions = inputs[columns]
    categorical = trees.arrays["decision_type"] & 1 == 1
    first, sets = _first_words(trees, categorical)
    nodes = np.empty((len(columns), NODE_WORDS), dtype=np.int64)
    nodes[:, 0] = first
    nodes[:, 1] = (
        (trees.arrays["left_child"] & 0xFFFF)
        | (trees.arrays["right_child"] & 0xFFFF) << 16
        | positions << 32
        | trees.arrays["decision_type"] << 48
    )
    places = _places(trees)
    nodes_at = (HEAD_WORDS + len(places)) * 8
    leaves_at = nodes_at + nodes.size * 8
    sets_at = leaves_at + len(trees.arrays["leaf_value"]) * 8
    averaged = len(trees.nodes) // outputs if "average_output" in header else 0
    head = [len(places), outputs, transform, _bits(sigmoid), nodes_at, leaves_at, sets_at, averaged]
    parts = (np.array(head), places, nodes.ravel(), trees.arrays["leaf_value"].view(np.int64), sets)
    words: Words = np.concatenate(parts, dtype=np.int64)
    return TreePack(words, positions, np.where(categorical, np.nan, trees.arrays["threshold"]))


def _transform(objective: str, outputs: int) -> tuple[int, float]:
    name, *given = objective.split(" ")
    if name not in _TRANSFORMS:
        raise NotPackableError(f"its objective {name!r} is none that packs know")
    sigmoid = 1.0
    transform = _TRANSFORMS[name]
    for option in given:
        key, _, value = option.partition(":")
        if key == "sigmoid" and name != "cross_entropy":
            sigmoid = float(value)
        elif key == "sqrt" and name == "regression":
            transform = SQUARE
        elif key not in ("num_class", "tweedie_variance_power"):
            raise NotPackableError(f"its objective has the option {option!r}")
    if transform == SOFTMAX and outputs < 2:
        raise NotPackableError("a multiclass model of one output")
    return transform, sigmoid


def _check_children(trees: _Trees) -> None:
    """A child node comes after its parent, as trees are grown; so every walk ends, in a leaf of its own tree."""
    own = np.concatenate([np.arange(count) for count in trees.nodes]) if trees.nodes.sum() else np.empty(0)
    nodes = np.repeat(trees.nodes, trees.nodes)
    leaves = np.repeat(trees.leaves, trees.nodes)
    for name in ("left_child", "right_child"):
        child = trees.arrays[name]
        good = np.where(child < 0, ~child < leaves, (child > own) & (child < nodes))
        if not good.all():
            raise NotPackableError("a tree is not grown from its root")
    flags = trees.arrays["decision_type"]
    if ((flags < 0) | (flags > 15) | (flags >> 2 == 3)).any():
        raise NotPackableError("a split has a decision_type that is unknown")


def _first_words(trees: _Trees, categorical: NDArray[np.bool_]) -> tuple[Words, Words]:
    """The nodes' first words, and the words of all category sets."""
    thresholds = trees.arrays["threshold"]
    if np.isnan(thresholds).any():
        raise NotPackableError("a threshold is no number")
    first: Words = thresholds.view(np.int64).copy()
    tree_of = np.repeat(np.arange(len(trees.nodes)), trees.nodes)
    words = trees.arrays["cat_threshold"]
    if len(words) and (words.min() < 0 or words.max() >> 32):
        raise NotPackableError("a category set has words of more than 32 bits")
    for node in np.flatnonzero(categorical).tolist():
        tree = int(tree_of[node])
        start = trees.set_starts[tree]
        bounds = trees.arrays["cat_boundaries"][start : trees.set_starts[tree + 1]]
        number = int(thresholds[node])
        if not 0 <= number < len(bounds) - 1:
            raise NotPackableError("a split names a category set that is not there")
        low, high = int(bounds[number]), int(bounds[number + 1])
        if not 0 <= low <= high <= trees.word_starts[tree + 1] - trees.word_starts[tree]:
            raise NotPackableError("a category set lies outside its tree's words")
        first[node] = (trees.word_starts[tree] + low) << 32 | (high - low)
    return first, words


def _places(trees: _Trees) -> Words:
    """For each tree its first node and its first leaf."""
    first_node = np.cumsum(trees.nodes) - trees.nodes
    first_leaf = np.cumsum(trees.leaves) - trees.leaves
    return np.where(trees.nodes == 0, -1, first_node) << 32 | first_leaf


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))
