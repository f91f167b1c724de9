"""Checks of a pack before its address is given to the kernel, which itself believes every word.

A pack may come from a file that lost bits, or that somebody wrote to lead the kernel astray. `check` proves that no
row can make the kernel read outside the pack, its row, its scores or its scratch, leave a score unwritten, nor walk
for long: children follow their parents, so every walk ends; the trees together are no larger than the pack, so a walk
takes no more steps than it has words; every offset, count and position is within what it indexes.
"""

from typing import Final

from numba import njit

from workers.packing.addresses import word_at
from workers.packing.compiling import compiled
from workers.packing.layout import (
    HEAD_WORDS,
    LABEL_OF_RAW,
    LINE_WORDS,
    LINEAR,
    MOST_NODES,
    MOST_RAW,
    MOST_WORDS,
    PLAIN_TREES,
    PROBABILITIES,
    SIGMOID_SHARES,
    TREES,
)
from workers.packing.linear import AT_MOST, NUMBER, REFUSED

# As in `workers.packing.kernel`.
COMPILED_IN: Final = ("addresses", "layout", "linear"), "269d2a1c9c6c"

SOUND: Final = 0
_inner: Final = njit(error_model="numpy")


@_inner
def _within(start: int, count: int, size: int) -> bool:
    """Whether `count` words from `start` lie behind the head and before the pack's end."""
    return start >= HEAD_WORDS and count >= 0 and count <= size and start <= size - count


@_inner
def _tree_words(place: int, leaf: int) -> int:
    """Words of one tree's nodes and leaves."""
    count = place >> 32
    return int(2 * count + (count + 1) * leaf)


@_inner
def _sound_tree(pack: int, place: int, leaf: int, size: int, sets: int, width: int) -> bool:
    """Whether one tree's nodes and leaves lie within the pack, lead only forward, and are special only in `TREES`."""
    count = place >> 32
    first = place & 0xFFFFFFFF
    if count < 0 or count > MOST_NODES or not _within(first, _tree_words(place, leaf), size):
        return False
    for node in range(count):
        at = pack + 8 * (first + 2 * node)
        word = word_at(at + 8)
        if (word >> 32) & 0x7FFF >= width or word & (1 << 47):
            return False
        for shift in (0, 16):
            child = (word >> shift) & 0xFFFF
            if child & 0x8000:
                if 0xFFFF - child > count:
                    return False
            elif child <= node or child >= count:
                return False
        flags = (word >> 48) & 0xFFFF
        if flags & 0x8000 and word_at(pack + 8) != TREES:
            return False
        if flags & 0x8000 and flags & 17:
            begin, length = word_at(at) >> 32, word_at(at) & 0xFFFFFFFF
            twice = 2 if flags & 16 else 1
            if begin < 0 or length > size or begin + twice * length > sets:
                return False
    return True


@_inner
def _sound_terms(pack: int, first: int, parts: int, raw: int, size: int, width: int) -> bool:
    """Whether the terms of a linear pack, one behind the other, lie within the pack and read only their row."""
    if parts < 0:
        return False
    at = first
    for _ in range(parts):
        if not _within(at, 2, size):
            return False
        head, kind = word_at(pack + 8 * at), word_at(pack + 8 * at + 8)
        operations, entries = (head >> 16) & 0xFFFF, head >> 32
        if head & 0xFFFF >= width or head & 0x8000 or entries < 0 or kind < NUMBER or kind > REFUSED:
            return False
        if kind == NUMBER and entries:
            return False
        words = 2 * operations + (raw if kind == NUMBER else entries * (1 + raw))
        if not _within(at + 2, words, size):
            return False
        for operation in range(at + 2, at + 2 + 2 * operations, 2):
            if word_at(pack + 8 * operation) < 0 or word_at(pack + 8 * operation) > AT_MOST:
                return False
        at += 2 + words
    return True


@_inner
def _sound_parts(pack: int, raw: int, leaf: int, size: int, width: int) -> bool:
    """Whether all trees or terms are sound."""
    parts, parts_at, sets_at = word_at(pack + 16), word_at(pack + 96), word_at(pack + 104)
    if word_at(pack + 8) == LINEAR:
        return bool(_sound_terms(pack, parts_at, parts, raw, size, width))
    if not _within(parts_at, parts, size) or not _within(sets_at, 0, size):
        return False
    room = size
    for part in range(parts_at, parts_at + parts):
        # Trees that lie on one another would make a small file long to check and to walk.
        room -= _tree_words(word_at(pack + 8 * part), leaf)
        if room < 0 or not _sound_tree(pack, word_at(pack + 8 * part), leaf, size, size - sets_at, width):
            return False
    return True


@_inner
def _sound_projection(pack: int, raw: int, at: int, outputs: int, size: int, columns: int, groups: int) -> bool:
    """Whether a projection fills the signature's columns and names its classes."""
    classes = raw if raw > 1 else 2
    if outputs < 0 or outputs > columns or not _within(at, outputs + classes, size):
        return False
    for number in range(classes):
        target = word_at(pack + 8 * (at + outputs + number))
        if target < 0 or target >= groups:
            return False
    filled = 0
    for spec in range(outputs):
        what = word_at(pack + 8 * (at + spec))
        kind, wide, column = what >> 48, (what >> 24) & 0xFFFFFF, what & 0xFFFFFF
        if kind < 1 or kind > LABEL_OF_RAW or column != filled or wide != (groups if kind == PROBABILITIES else 1):
            return False
        filled += wide
    # A column that nothing fills would answer what lay in memory before.
    return bool(filled == columns)


@compiled("int64(int64, int64, int64, int64, int64)")
def check(pack: int, words: int, width: int, columns: int, groups: int) -> int:
    """Whether the kernel may be given a pack: 0 (`SOUND`), or the number of the check that it fails.

    Args:
        pack: address of the pack.
        words: how many it has there.
        width: inputs of the signature.
        columns: score columns of the signature.
        groups: classes of the signature, 0 for none.
    """
    if words < HEAD_WORDS or words > MOST_WORDS or word_at(pack) != words or words % LINE_WORDS:
        return 1
    family = word_at(pack + 8)
    raw, leaf = word_at(pack + 24), word_at(pack + 32)
    outputs = word_at(pack + 120)
    if family < 0 or family > PLAIN_TREES:
        return 2
    if raw < 1 or raw > MOST_RAW or leaf not in (1, raw) or (outputs == 0 and raw != columns):
        return 3
    if word_at(pack + 40) < 0 or word_at(pack + 40) > SIGMOID_SHARES or word_at(pack + 56) < 0:
        return 4
    reads, inputs = word_at(pack + 72), word_at(pack + 80)
    if not _within(inputs, reads, words):
        return 5
    for at in range(inputs, inputs + reads):
        if word_at(pack + 8 * at) < 0 or word_at(pack + 8 * at) >= width:
            return 5
    if word_at(pack + 88) and not _within(word_at(pack + 88), raw, words):
        return 6
    if not _sound_parts(pack, raw, leaf, words, width):
        return 7
    if outputs and not _sound_projection(pack, raw, word_at(pack + 112), outputs, words, columns, groups):
        return 8
    return SOUND
