"""The part of the kernel that walks the trees of a pack and sums their leaves.

Compiled into the entry points of `workers.packing.kernel`, which names the state of this file (`COMPILED_IN`). Sums run
in the native libraries' own order.
"""

import math
from typing import Any, Final

import numpy as np
from numba import njit

from workers.packing.addresses import fetch_ahead, number_at, put_at, word_at
from workers.packing.layout import CATEGORIES_OR_MISSING, NARROW_TREES, SPECIAL_LEFT, ZERO

_NAN, _AS_ZERO = 2, 1  # LightGBM's missing types
# Measured: fetching three trees ahead halves the time over packs that are in no cache.
AHEAD_TREES: Final = 3
AHEAD_LINES: Final = 6
_INTEGERS: Final = 2147483648.0

# Compiled with those that call them, and cached with them.
_inner: Final = njit(error_model="numpy")
_inlined: Final = njit(error_model="numpy", forceinline=True)  # where a call would cost as much as what it does


@_inner
def _in_set(sets: int, place: int, value: float) -> bool:
    """Whether a category is in a set of a categorical split; what is no category is in none."""
    if not (value > -1.0 and value < _INTEGERS):
        return False
    category = int(value)
    word = category >> 5
    if word >= (place & 0xFFFFFFFF):
        return False
    return bool((word_at(sets + 8 * ((place >> 32) + word)) >> (category & 31)) & 1)


@_inner
def _goes_left(node: int, flags: int, sets: int, value: float) -> bool:
    """The decision of a special node."""
    if flags & CATEGORIES_OR_MISSING:
        # The set, and behind it one of equal size of all categories that were seen; what was not seen is missing.
        place = word_at(node)
        known = place + ((place & 0xFFFFFFFF) << 32)
        if not _in_set(sets, known, value) or value != math.floor(value):  # a floor only of what is small
            return bool(flags & SPECIAL_LEFT)
        return bool(_in_set(sets, place, value))
    if abs(value) <= ZERO:
        value = 0.0
    if flags & 1:
        return bool(_in_set(sets, word_at(node), value))
    missing = (flags >> 2) & 3
    if math.isnan(value) and missing != _NAN:
        value = 0.0
    if (missing == _AS_ZERO and value == 0.0) or math.isnan(value):
        return bool(flags & SPECIAL_LEFT)
    return bool(value <= number_at(node))


@_inlined
def _leaf(nodes: int, sets: int, row: int) -> int:
    """The leaf of one tree that a row falls into."""
    node = nodes
    while True:
        word = word_at(node + 8)
        value = number_at(row + 8 * ((word >> 32) & 0x7FFF))
        if word >= 0:  # not special; written without a jump, because where a row goes nobody can predict
            left = (value <= number_at(node)) | (math.isnan(value) & ((word >> 48) & 1 == 1))
        else:
            left = _goes_left(node, word >> 48, sets, value)
        child = (word if left else word >> 16) & 0xFFFF
        if child & 0x8000:
            return int(0xFFFF - child)
        node = nodes + 16 * child


@_inner
def _narrow_leaf(nodes: int, row: int) -> int:
    """As `_leaf`, for inputs that are read as float32 and nodes of which none is special."""
    node = nodes
    while True:
        word = word_at(node + 8)
        value = float(np.float32(number_at(row + 8 * ((word >> 32) & 0x7FFF))))
        left = (value <= number_at(node)) | (math.isnan(value) & ((word >> 48) & 1 == 1))
        child = (word if left else word >> 16) & 0xFFFF
        if child & 0x8000:
            return int(0xFFFF - child)
        node = nodes + 16 * child


@_inlined
def _ask_for(pack: int, place_at: int, end: int) -> None:
    """Have the processor fetch a tree that is walked soon: a small one wholly, of a large one the top."""
    if place_at < end:
        block = pack + 8 * (word_at(place_at) & 0xFFFFFFFF)
        for line in range(block, block + AHEAD_LINES * 64, 64):
            fetch_ahead(line)


def _stepping(narrow: bool) -> Any:
    """A step down a tree of no special nodes, for inputs read as they are or as float32."""

    @_inlined
    def step(nodes: int, place: int, pack: int, row: int) -> int:
        """Where a row goes from a place; a leaf (bit 15) is where it stays.

        Written without a jump: where rows go nobody can predict, and so the steps of several trees overlap.
        """
        leaf = (place >> 15) & 1
        node = pack if leaf else nodes + 16 * place  # of a leaf the head is read, which does no harm
        word = word_at(node + 8)
        value = number_at(row + 8 * ((word >> 32) & 0x7FFF))
        if narrow:
            value = float(np.float32(value))
        left = (value <= number_at(node)) | (math.isnan(value) & ((word >> 48) & 1 == 1))
        child = (word if left else word >> 16) & 0xFFFF
        return int(place if leaf else child)

    return step


@_inlined
def _leaf_number(nodes: int, count: int, place: int) -> float:
    return float(number_at(nodes + 16 * count + 8 * (0xFFFF - place)))


def _summing(step: Any) -> Any:
    """As `sum_one`, for trees of no special nodes."""

    @_inner
    def sum_up(pack: int, row: int, start: float) -> float:
        """Four trees side by side: no step waits for the node that another tree's step fetches."""
        at = pack + 8 * word_at(pack + 96)
        end = at + 8 * word_at(pack + 16)
        total = start
        while at + 32 <= end:
            one, two, three, four = word_at(at), word_at(at + 8), word_at(at + 16), word_at(at + 24)
            for ahead in range(at + 32, at + 64, 8):
                _ask_for(pack, ahead, end)
            nodes_1, nodes_2 = pack + 8 * (one & 0xFFFFFFFF), pack + 8 * (two & 0xFFFFFFFF)
            nodes_3, nodes_4 = pack + 8 * (three & 0xFFFFFFFF), pack + 8 * (four & 0xFFFFFFFF)
            count_1, count_2, count_3, count_4 = one >> 32, two >> 32, three >> 32, four >> 32
            place_1, place_2 = 0 if count_1 else 0xFFFF, 0 if count_2 else 0xFFFF
            place_3, place_4 = 0 if count_3 else 0xFFFF, 0 if count_4 else 0xFFFF
            while not place_1 & place_2 & place_3 & place_4 & 0x8000:
                place_1 = step(nodes_1, place_1, pack, row)
                place_2 = step(nodes_2, place_2, pack, row)
                place_3 = step(nodes_3, place_3, pack, row)
                place_4 = step(nodes_4, place_4, pack, row)
            total += _leaf_number(nodes_1, count_1, place_1)
            total += _leaf_number(nodes_2, count_2, place_2)
            total += _leaf_number(nodes_3, count_3, place_3)
            total += _leaf_number(nodes_4, count_4, place_4)
            at += 32
        while at < end:
            place = word_at(at)
            nodes, count = pack + 8 * (place & 0xFFFFFFFF), place >> 32
            leaf = 0 if count else 0xFFFF
            while not leaf & 0x8000:
                leaf = step(nodes, leaf, pack, row)
            total += _leaf_number(nodes, count, leaf)
            at += 8
        return total

    return sum_up


sum_plain: Final = _summing(_stepping(narrow=False))
sum_narrow: Final = _summing(_stepping(narrow=True))


@_inner
def sum_one(pack: int, row: int, start: float) -> float:
    """The sum of trees with one number a leaf and one in all, read as they are."""
    sets = pack + 8 * word_at(pack + 104)
    place_at = pack + 8 * word_at(pack + 96)
    end = place_at + 8 * word_at(pack + 16)
    total = start
    while place_at < end:
        _ask_for(pack, place_at + AHEAD_TREES * 8, end)
        place = word_at(place_at)
        nodes = pack + 8 * (place & 0xFFFFFFFF)
        count = place >> 32
        leaf = _leaf(nodes, sets, row) if count else 0
        total += number_at(nodes + 16 * count + 8 * leaf)
        place_at += 8
    return total


@_inner
def sum_trees(pack: int, row: int, sums: int) -> None:
    """Add up the trees of a pack, whatever they are."""
    raw, leaf_words = word_at(pack + 24), word_at(pack + 32)
    narrow = word_at(pack + 8) == NARROW_TREES
    sets = pack + 8 * word_at(pack + 104)
    place_at = pack + 8 * word_at(pack + 96)
    end = place_at + 8 * word_at(pack + 16)
    output = 0
    while place_at < end:
        _ask_for(pack, place_at + AHEAD_TREES * 8, end)
        place = word_at(place_at)
        count = place >> 32
        nodes = pack + 8 * (place & 0xFFFFFFFF)
        leaf = 0
        if count:
            leaf = _narrow_leaf(nodes, row) if narrow else _leaf(nodes, sets, row)
        at = nodes + 16 * count + 8 * leaf * leaf_words
        if leaf_words == 1:
            put_at(sums + 8 * output, number_at(sums + 8 * output) + number_at(at))
            output += 1
            if output == raw:
                output = 0
        else:
            for number in range(raw):
                put_at(sums + 8 * number, number_at(sums + 8 * number) + number_at(at + 8 * number))
        place_at += 8
