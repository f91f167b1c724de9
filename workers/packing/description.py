"""What a pack says of itself, in words, for whoever looks into a segment file.

A pack may be damaged, and is then looked at most closely: nothing here follows a number of it out of its bytes, and
what has no meaning is shown as the number it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from workers.packing.layout import (
    EXP,
    HEAD_WORDS,
    IDENTITY,
    LABEL,
    LABEL_ABOVE_ZERO,
    LABEL_FROM_ZERO,
    LABEL_OF_RAW,
    LINEAR,
    LOG1P_EXP,
    NARROW_TREES,
    NO_INFINITE,
    NO_MISSING,
    NO_WIDE,
    PLAIN_TREES,
    PROBABILITIES,
    SIGMOID,
    SIGMOID_SHARES,
    SOFTMAX,
    SQUARE,
    TREES,
    Head,
    Words,
    head_of,
)

_MOST_CLASSES: Final = 1 << 24  # more columns than a projection can name

_FAMILIES: Final[Mapping[int, str]] = {
    TREES: "trees",
    NARROW_TREES: "trees that read float32",
    PLAIN_TREES: "trees without special nodes",
    LINEAR: "linear terms",
}
_TRANSFORMS: Final[Mapping[int, str]] = {
    IDENTITY: "none",
    EXP: "exp",
    SIGMOID: "sigmoid",
    SQUARE: "square with its sign",
    LOG1P_EXP: "log(1 + exp)",
    SOFTMAX: "softmax",
    SIGMOID_SHARES: "sigmoids, divided by their sum",
}
_REFUSALS: Final[Mapping[int, str]] = {
    NO_MISSING: "missing values",
    NO_INFINITE: "infinite values",
    NO_WIDE: "values too large for float32",
}
_OUTPUTS: Final[Mapping[int, str]] = {
    PROBABILITIES: "probabilities",
    LABEL: "label of the likeliest class",
    LABEL_ABOVE_ZERO: "label by a raw number above zero",
    LABEL_FROM_ZERO: "label by a raw number from zero on",
    LABEL_OF_RAW: "label of the largest raw number",
}


@dataclass(frozen=True, slots=True)
class PackDescription:
    """A pack in words.

    Attributes:
        words: how many it says it has.
        family, transform: in words, or `unknown (number)`.
        parts: trees, or linear terms.
        raw: numbers that the parts sum up to.
        leaf: numbers a leaf holds.
        scale: the factor of a sigmoid.
        divisor: what the sums are divided by first; 0 for nothing.
        starts: what each raw number begins with; empty for zero.
        refuses: the kinds of values that make a row refused, where one stands in an input of `looked_at`.
        inputs: of trees, the positions of the signature's inputs that they split on.
        nodes: of trees, internal nodes in all.
        outputs: what each output of the signature is, where they are not the raw numbers themselves.
        classes: position of each of the model's classes among the group's.
    """

    words: int
    family: str
    parts: int
    raw: int
    leaf: int
    transform: str
    scale: float
    divisor: int
    starts: tuple[float, ...]
    refuses: tuple[str, ...]
    looked_at: tuple[int, ...]
    inputs: tuple[int, ...]
    nodes: int
    outputs: tuple[str, ...]
    classes: tuple[int, ...]


def describe_pack(pack: bytes) -> PackDescription | None:
    """A pack in words, None if it is too short to have a head."""
    words: Words = np.frombuffer(pack, dtype=np.int64, count=len(pack) // 8)
    if len(words) < HEAD_WORDS:
        return None
    head = head_of(words)
    inputs, nodes = _splits(words, head)
    projection = _run(words, head.projection_at, head.outputs)
    targets = _run(words, head.projection_at + head.outputs, max(head.raw, 2)) if len(projection) else projection
    return PackDescription(
        words=head.size,
        family=_named(_FAMILIES, head.family),
        parts=head.parts,
        raw=head.raw,
        leaf=head.leaf,
        transform=_named(_TRANSFORMS, head.transform),
        scale=float(words[6:7].view(np.float64)[0]),
        divisor=head.divisor,
        starts=tuple(_run(words, head.starts_at, head.raw).view(np.float64).tolist()) if head.starts_at else (),
        refuses=tuple(text for bit, text in _REFUSALS.items() if head.refuses & bit),
        looked_at=tuple(_run(words, head.inputs_at, head.reads).tolist()),
        inputs=inputs,
        nodes=nodes,
        outputs=tuple(_named(_OUTPUTS, word >> 48) for word in projection.tolist()),
        classes=tuple(targets.tolist()),
    )


def shape_claimed(pack: bytes, inputs: int) -> tuple[int, int, int]:
    """Inputs, columns and classes of the signature that a pack was made for, as far as it says so itself.

    The columns are its raw numbers or those its outputs fill. A pack of labels alone does not say how many classes
    there are: then they are as many as its classes need.
    """
    words: Words = np.frombuffer(pack, dtype=np.int64, count=len(pack) // 8)
    head = head_of(words)
    projection = _run(words, head.projection_at, head.outputs)
    if not len(projection):
        return inputs, head.raw, 0
    columns = int(((projection >> 24) & 0xFFFFFF).sum())
    shares = ((projection[projection >> 48 == PROBABILITIES] >> 24) & 0xFFFFFF).tolist()
    targets = _run(words, head.projection_at + head.outputs, max(head.raw, 2)).tolist()
    return inputs, columns, shares[0] if shares else min(max([0, *targets]), _MOST_CLASSES) + 1


def _run(words: Words, start: int, count: int) -> Words:
    """Some words, none if they do not all lie within the pack."""
    within = start >= HEAD_WORDS and 0 <= count <= len(words) - start
    return words[start : start + count] if within else words[:0]


def _splits(words: Words, head: Head) -> tuple[tuple[int, ...], int]:
    """The inputs that trees split on, and how many internal nodes they have."""
    if head.family == LINEAR:
        return (), 0
    read: set[int] = set()
    nodes = 0
    for place in _run(words, head.parts_at, head.parts).tolist():
        block = _run(words, place & 0xFFFFFFFF, 2 * (place >> 32))
        read.update(((block[1::2] >> 32) & 0x7FFF).tolist())
        nodes += len(block) // 2
        if nodes > len(words):  # trees that lie on one another: looking at all of them might take for ever
            break
    return tuple(sorted(read)), nodes


def _named(names: Mapping[int, str], number: int) -> str:
    return names.get(number, f"unknown ({number})")
