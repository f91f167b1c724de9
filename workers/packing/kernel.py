"""The kernel: scores rows with packs, one call for rows of as many models as a caller likes.

Everything is passed by address; the caller keeps packs, rows and scores alive for the length of the call, and every
pack was checked (`workers.packing.checks`) before its address got here. The GIL is given up; nothing is allocated.
Sums and transforms run in the native libraries' own order: LightGBM's answers are its own to the last bit.

Compiled at the first import on a machine (`workers.packing.compiling`).
"""

import math
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from workers.features import Matrix
from workers.packing.addresses import fetch_ahead, number_at, put_at, word_at
from workers.packing.answers import first_largest, project, transform
from workers.packing.compiling import compiled
from workers.packing.layout import (
    GOOD,
    INFINITE,
    LINEAR,
    MISSING,
    MOST_RAW,
    NARROW_TREES,
    NO_INFINITE,
    NO_MISSING,
    NO_WIDE,
    PLAIN_TREES,
    Words,
)
from workers.packing.terms import sum_terms
from workers.packing.tree_sums import sum_narrow, sum_one, sum_plain, sum_trees

# Numba keeps what it compiled until this very file changes; so it names the state of the modules that are compiled into
# it: the start of the SHA-256 of their texts, one behind the other (a test says what it must be).
COMPILED_IN: Final = ("addresses", "answers", "layout", "linear", "terms", "tree_sums"), "ab6014053ea1"

_TOO_WIDE: Final = 3.4028235677973366e38  # from here on a float64 rounds to an infinite float32

FIRST_LINES: Final = 8  # of the next row's pack: its head, and where the trees of most lie
_inner: Final = njit(error_model="numpy")  # compiled with those that call it, and cached with them


@_inner
def _refused(pack: int, row: int) -> int:
    """Whether the native library would refuse a row, and for what."""
    refuses = word_at(pack + 64)
    inputs = pack + 8 * word_at(pack + 80)
    for at in range(inputs, inputs + 8 * word_at(pack + 72), 8):
        value = number_at(row + 8 * word_at(at))
        if math.isnan(value):
            if refuses & NO_MISSING:
                return MISSING
        elif (refuses & NO_INFINITE and math.isinf(value)) or (refuses & NO_WIDE and abs(value) >= _TOO_WIDE):
            return INFINITE
    return GOOD


@_inner
def _sum_up(pack: int, row: int, sums: int, raw: int) -> int:
    """Add up the parts of a pack, whatever they are; answers what became of the row."""
    family = word_at(pack + 8)
    if family == LINEAR:
        return int(sum_terms(pack, row, sums))
    if raw > 1:
        sum_trees(pack, row, sums)
    elif family == PLAIN_TREES:
        put_at(sums, sum_plain(pack, row, number_at(sums)))
    elif family == NARROW_TREES:
        put_at(sums, sum_narrow(pack, row, number_at(sums)))
    else:
        put_at(sums, sum_one(pack, row, number_at(sums)))
    return GOOD


@_inner
def _score(pack: int, row: int, out: int, scratch: int) -> int:
    if word_at(pack + 64):
        state = _refused(pack, row)
        if state != GOOD:
            return int(state)
    raw, outputs = word_at(pack + 24), word_at(pack + 120)
    sums = scratch if outputs else out
    starts = word_at(pack + 88)
    for number in range(raw):
        put_at(sums + 8 * number, number_at(pack + 8 * (starts + number)) if starts else 0.0)
    state = _sum_up(pack, row, sums, raw)
    if state != GOOD:
        return int(state)
    divisor = word_at(pack + 56)
    if divisor:
        for at in range(sums, sums + 8 * raw, 8):
            put_at(at, number_at(at) / divisor)
    first = number_at(sums)
    label_of_raw = first_largest(sums, raw) if outputs else 0
    if word_at(pack + 40):
        transform(pack, raw, sums)
    if outputs:
        return int(project(pack, raw, sums, first, label_of_raw, out))
    return GOOD


@compiled("int64(int64, int64, int64, int64)")
def score_row(pack: int, row: int, out: int, scratch: int) -> int:
    """Score one row; answers what became of it (`layout.GOOD` or why it is refused, its scores being undefined then).

    Args:
        pack: address of a pack's words.
        row: address of the row's float64, one an input of the signature.
        out: address of the row's scores, one float64 a column of the signature.
        scratch: address of MOST_RAW float64 that nobody else uses meanwhile.
    """
    return int(_score(pack, row, out, scratch))


@compiled("int64(int64[::1], int64[::1], int64[::1], int8[::1], int64)")
def score_rows(packs: Any, rows: Any, outs: Any, states: Any, scratch: int) -> int:
    """Score many rows, each with a model of its own; answers how many are refused.

    Addresses as `score_row` takes them, int64, shape (rows,); `states`, int8, is filled with what became of each.
    """
    refused = 0
    for number in range(len(packs)):
        if number + 1 < len(packs):
            for line in range(packs[number + 1], packs[number + 1] + FIRST_LINES * 64, 64):
                fetch_ahead(line)
        state = _score(packs[number], rows[number], outs[number], scratch)
        states[number] = state
        refused += state != GOOD
    return refused


@compiled("void(int32[::1], int64[::1], int64[::1])")
def order_by_key(key_rows: Any, starts: Any, order: Any) -> None:
    """Rows by key, ascending within a key: a counting sort.

    Args:
        key_rows: int32, shape (rows,): each row's key.
        starts: int64, zeros, shape (keys + 1,).
        order: int64, shape (rows,), filled with row numbers.
    """
    for row in range(len(key_rows)):
        starts[key_rows[row] + 1] += 1
    for key in range(1, len(starts)):
        starts[key] += starts[key - 1]
    for row in range(len(key_rows)):
        key = key_rows[row]
        order[starts[key]] = row
        starts[key] += 1


def scratch() -> Matrix:
    """Room for one call's sums, float64, shape (MOST_RAW,)."""
    room: Matrix = np.empty(MOST_RAW)
    return room


def score(words: Words, rows: Matrix, width: int) -> tuple[Matrix, NDArray[np.int8]]:
    """`score_at` for a pack in an array."""
    return score_at(words.ctypes.data, rows, width)


def score_at(address: int, rows: Matrix, width: int) -> tuple[Matrix, NDArray[np.int8]]:
    """Scores of a pack and what became of each row, for rows that are C-contiguous in the signature's width.

    float64, shape (rows, width), rows that are refused being NaN; and int8, shape (rows,).
    """
    count, inputs = rows.shape
    answers: Matrix = np.empty((count, width))
    states = np.empty(count, dtype=np.int8)
    numbers = np.arange(count)
    room = scratch()
    score_rows(
        np.full(count, address),
        rows.ctypes.data + numbers * (8 * inputs),
        answers.ctypes.data + numbers * (8 * width),
        states,
        room.ctypes.data,
    )
    answers[states != GOOD] = np.nan
    return answers, states
