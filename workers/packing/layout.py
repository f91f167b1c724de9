"""Packs: models as runs of 64-bit words that a kernel reads where they lie, in memory or in a mapped file.

A native model scatters its numbers over hundreds of small allocations; when every row asks another model, fetching
them costs more than computing with them. A pack holds what a prediction reads and nothing else, bound to the group's
signature: its inputs are positions in a row of the signature, its answers are the signature's columns.

    words 0..15  the head: see `Head`
    inputs       the positions it reads, where some values are refused
    starts       what each raw number begins with (float64), if not zero
    parts        trees: offset | internal nodes << 32, a word each; linear: see `workers.packing.linear`
    blocks       of each tree its nodes, two words each, then its leaves, `leaf` float64 each (leaves: nodes + 1)
    sets         32-bit words of category sets, one in a word
    projection   a word for each output of the signature: kind << 48 | columns << 24 | first column; then for each class
                 of the model its position among the group's classes
    zeros        up to a multiple of eight words, a cache line

A node's first word is its threshold (float64), or for a categorical split the first word of its set << 32 | 32-bit
words in it; the second is left child | right child << 16 | input << 32 | flags << 48. Children are counted within the
tree and follow their parent; a leaf is ~number in 16 bits. Offsets are words from the pack's start. Little-endian.

Pure functions. Whatever is not understood exactly is refused with its reason, and such a model stays native.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]

FORMAT: Final = 1
HEAD_WORDS: Final = 16
LINE_WORDS: Final = 8
NODE_WORDS: Final = 2
MOST_POSITIONS: Final = 1 << 15  # inputs of a signature that a node or a term can name
MOST_NODES: Final = (1 << 15) - 1
MOST_RAW: Final = 256  # what one row's sums may need; more outputs are better off in a library of their own
MOST_WORDS: Final = 1 << 21  # 16 MB: what is larger is better off in a library of its own, too

# LightGBM reads anything this near zero as zero: its kZeroThreshold, a float32.
ZERO: Final = 1.0000000180025095e-35

# Families: what a part is and how a value is read before it is compared. No node of plain and narrow trees is special.
TREES, NARROW_TREES, LINEAR, PLAIN_TREES = range(4)

# From raw sums to answers. LightGBM's are `ConvertOutput` of its objectives (src/objective/*.hpp, version 4).
IDENTITY, EXP, SIGMOID, SQUARE, LOG1P_EXP, SOFTMAX, SIGMOID_SHARES = range(7)

# Values that make a row refused, as the native library refuses them. Bits.
NO_MISSING, NO_INFINITE, NO_WIDE = 1, 2, 4

# What became of a row.
GOOD, MISSING, INFINITE, UNDECIDED, UNKNOWN = range(5)

# Flags of a node: MISSING_LEFT of one that is not special. A special one has LightGBM's `decision_type` below (1
# categorical, SPECIAL_LEFT, 4 and 8 missing). One with CATEGORIES_OR_MISSING has instead the set of the categories that
# go left, and behind it one of equal size of all that were seen; a value that is none of these goes where missing ones
# go, left with SPECIAL_LEFT.
MISSING_LEFT, SPECIAL_LEFT, CATEGORIES_OR_MISSING, SPECIAL = 1, 2, 16, 1 << 15

# Kinds of projection. A label is the position of the likeliest class, or decided by the one raw number's sign, or the
# position of the largest raw number as numpy's argmax finds it.
PROBABILITIES, LABEL, LABEL_ABOVE_ZERO, LABEL_FROM_ZERO, LABEL_OF_RAW = range(1, 6)

Codes = Sequence[tuple[int, Mapping[Any, int]]]
"""Of each input read by its categories: its position in the signature, and the codes of its values."""


class NotPackableError(Exception):
    """The model is none that a pack represents exactly. Never reaches a caller of the service.

    Attributes:
        because: one word for counting (see `workers.packing.verdicts`); the text says more.
    """

    def __init__(self, because: str, said: str) -> None:
        super().__init__(said)
        self.because = because


class Head(NamedTuple):
    """The first words of a pack, in their order.

    Attributes:
        size: words of the pack, a multiple of eight.
        family: what the parts are.
        parts: how many there are.
        raw: numbers that the parts sum up to.
        leaf: numbers a leaf holds: 1 (a tree adds to raw number `tree % raw`) or `raw` (it adds to all).
        transform: from raw numbers to answers.
        scale: the sigmoid's factor, the bits of a float64.
        divisor: what the sums are divided by first; 0 for nothing.
        refuses: bits of the values that make a row refused.
        reads: how many inputs are looked at for that.
        inputs_at, starts_at, parts_at, sets_at, projection_at: where the sections begin, in words, empty ones too; but
            a `starts_at` of 0 says that raw numbers begin with zero.
        outputs: entries of the projection.
    """

    size: int
    family: int
    parts: int
    raw: int
    leaf: int
    transform: int
    scale: int
    divisor: int
    refuses: int
    reads: int
    inputs_at: int
    starts_at: int
    parts_at: int
    sets_at: int
    projection_at: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Pack:
    """A model as words.

    Attributes:
        words: int64, shape (words,), C-contiguous.
        codes: inputs whose values the caller replaces by these codes; what is missing or unseen becomes NaN.
    """

    words: Words
    codes: Codes = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """Where a model decides, for the proof of its pack.

    Attributes:
        positions: inputs of the signature that it reads.
        thresholds: for each such input the numbers it compares with, float64; empty for one with categories.
    """

    positions: tuple[int, ...]
    thresholds: Mapping[int, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a packer hands to `assembled`: the words of the sections, and what the head says of them.

    Attributes:
        places: for trees the first words of each tree's block counted from the start of `blocks`, and its internal
            nodes << 32; for linear terms as they lie, `blocks` being empty.
        inputs: the positions that `refuses` looks at.
        starts: what each raw number begins with.
        targets: for each class of the model its position among the group's classes.
        outputs: kind, columns and first column of each output of the signature; empty where raw numbers are the
            columns.
    """

    family: int
    raw: int
    count: int
    places: Words
    blocks: Words
    sets: Words
    leaf: int = 1
    transform: int = IDENTITY
    scale: float = 1.0
    divisor: int = 0
    refuses: int = 0
    inputs: Sequence[int] = ()
    starts: Sequence[float] = ()
    outputs: Sequence[tuple[int, int, int]] = ()
    targets: Sequence[int] = ()


def assembled(parts: Parts) -> Words:
    """The words of a pack.

    Raises:
        NotPackableError: if it is larger than a pack may be.
    """
    if parts.raw > MOST_RAW:
        raise NotPackableError("shape", f"it sums up to {parts.raw} numbers")
    starts: Words = np.array(parts.starts, dtype=np.float64).view(np.int64)
    inputs: Words = np.array(parts.inputs, dtype=np.int64)
    outputs = [kind << 48 | columns << 24 | column for kind, columns, column in parts.outputs]
    projection = np.array([*outputs, *parts.targets], dtype=np.int64)
    inputs_at = HEAD_WORDS
    starts_at = inputs_at + len(inputs)
    parts_at = starts_at + len(starts)
    blocks_at = parts_at + len(parts.places)
    sets_at = blocks_at + len(parts.blocks)
    projection_at = sets_at + len(parts.sets)
    end = projection_at + len(projection)
    size = -(-end // LINE_WORDS) * LINE_WORDS
    if size > MOST_WORDS:
        raise NotPackableError("shape", "it is larger than a pack may be")
    head = Head(
        size=size,
        family=parts.family,
        parts=parts.count,
        raw=parts.raw,
        leaf=parts.leaf,
        transform=parts.transform,
        scale=bits(parts.scale),
        divisor=parts.divisor,
        refuses=parts.refuses,
        reads=len(inputs),
        inputs_at=inputs_at,
        starts_at=starts_at if len(starts) else 0,
        parts_at=parts_at,
        sets_at=sets_at,
        projection_at=projection_at,
        outputs=len(parts.outputs),
    )
    places = parts.places if parts.family == LINEAR else parts.places + blocks_at
    padding = np.zeros(size - end, dtype=np.int64)
    sections = (np.array(head), inputs, starts, places, parts.blocks, parts.sets, projection, padding)
    words: Words = np.concatenate(sections, dtype=np.int64)
    return words


def head_of(words: Words) -> Head:
    """The head of a pack."""
    return Head(*words[:HEAD_WORDS].tolist())


def bits(number: float) -> int:
    """A float64's bits as an int64."""
    return int(np.float64(number).view(np.int64))
