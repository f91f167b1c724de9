"""The kernel: scores rows with packs, one call for rows of as many models as a caller likes.

Everything is passed by address; the caller keeps packs, rows and scores alive for the length of the call, and every
pack was checked (`workers.packing.checks`) before its address got here. The GIL is given up; nothing is allocated.
Sums and transforms run in the native libraries' own order: LightGBM's answers are its own to the last bit.

Compiled at the first import on a machine, by one process while others wait for it, and cached: beside this file, or
where NUMBA_CACHE_DIR says; where neither can be written it is compiled at each start.
"""

import fcntl
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import config, njit
from numpy.typing import NDArray

from workers.features import Matrix
from workers.packing.addresses import fetch_ahead, number_at, put_at, word_at
from workers.packing.answers import first_largest, project, transform
from workers.packing.layout import (
    CATEGORIES_OR_MISSING,
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
    ZERO,
    Words,
)
from workers.packing.terms import sum_terms

log = logging.getLogger("manymodels.workers")

# Numba keeps what it compiled until this very file changes; so it names the state of the modules that are compiled into
# it: the start of the SHA-256 of their texts, one behind the other (a test says what it must be).
COMPILED_IN: Final = ("addresses", "answers", "layout", "linear", "terms"), "494bd90a8f66"

_NAN, _AS_ZERO = 2, 1  # LightGBM's missing types
# Measured: fetching three trees ahead halves the time over packs that are in no cache.
AHEAD_TREES: Final = 3
AHEAD_LINES: Final = 6
_INTEGERS: Final = 2147483648.0
_TOO_WIDE: Final = 3.4028235677973366e38  # from here on a float64 rounds to an infinite float32


def compiled(signature: str) -> Callable[[Any], Any]:
    """Compile with a cache where one can be written."""

    def compile_(function: Any) -> Any:
        try:
            with _one_at_a_time():
                return njit(signature, nogil=True, cache=True, error_model="numpy")(function)
        except RuntimeError as error:  # numba's word for a folder that it cannot write
            log.warning("the kernel cannot be cached (set NUMBA_CACHE_DIR to a folder it may write): %s", error)
            return njit(signature, nogil=True, error_model="numpy")(function)

    return compile_


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold a lock beside the cache: of processes that start together one compiles, the others take what it cached."""
    folder = Path(config.CACHE_DIR or Path(__file__).with_name("__pycache__"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "manymodels-kernel.lock").open("a", encoding="ascii")
    except OSError:  # no cache either
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
        if value != math.floor(value) or not _in_set(sets, known, value):
            return bool(flags & 2)
        return bool(_in_set(sets, place, value))
    if abs(value) <= ZERO:
        value = 0.0
    if flags & 1:
        return bool(_in_set(sets, word_at(node), value))
    missing = (flags >> 2) & 3
    if math.isnan(value) and missing != _NAN:
        value = 0.0
    if (missing == _AS_ZERO and value == 0.0) or math.isnan(value):
        return bool(flags & 2)
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
    """As `_sum_one`, for trees of no special nodes."""

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


_sum_plain: Final = _summing(_stepping(narrow=False))
_sum_narrow: Final = _summing(_stepping(narrow=True))


@_inner
def _sum_one(pack: int, row: int, start: float) -> float:
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
def _sum_trees(pack: int, row: int, sums: int) -> None:
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
        _sum_trees(pack, row, sums)
    elif family == PLAIN_TREES:
        put_at(sums, _sum_plain(pack, row, number_at(sums)))
    elif family == NARROW_TREES:
        put_at(sums, _sum_narrow(pack, row, number_at(sums)))
    else:
        put_at(sums, _sum_one(pack, row, number_at(sums)))
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
