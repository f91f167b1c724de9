"""The kernel: scores rows with packed trees, one call for rows of as many models as a caller likes.

Everything is passed by address, because that is what lets one call walk packs that lie in different places: the
caller keeps packs, rows and scores alive for the length of the call, and every pack was checked when it was made.
The GIL is given up; nothing is allocated. Sums and transforms run in LightGBM's own order, so answers are its own to
the last bit.

Compiled at the first import on a machine and cached: beside this file, or where NUMBA_CACHE_DIR says; where neither
can be written it is compiled at each start.
"""

import logging
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from workers.features import Matrix
from workers.packing.trees import EXP, HEAD_WORDS, LOG1P_EXP, SIGMOID, SOFTMAX, SQUARE, Words

log = logging.getLogger("manymodels.workers")

# LightGBM reads anything this near zero as zero: its kZeroThreshold, a float32.
ZERO: Final = 1.0000000180025095e-35
_HEAD: Final = HEAD_WORDS * 8
_NAN, _AS_ZERO = 2, 1  # missing types
_INTEGERS: Final = 2147483648.0


def _compiled(signature: str) -> Callable[[Any], Any]:
    """Compile with a cache where one can be written."""

    def compile_(function: Any) -> Any:
        try:
            return njit(signature, nogil=True, cache=True, error_model="numpy")(function)
        except RuntimeError as error:  # numba's word for a folder that it cannot write
            log.warning("the kernel cannot be cached (set NUMBA_CACHE_DIR to a folder it may write): %s", error)
            return njit(signature, nogil=True, error_model="numpy")(function)

    return compile_


# Compiled with those that call them, and cached with them.
_inner: Final = njit(error_model="numpy")


@intrinsic
def _number(_context: Any, _address: Any) -> Any:
    """The float64 at an address."""

    def load(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.DoubleType().as_pointer()))

    return types.float64(types.int64), load


@intrinsic
def _word(_context: Any, _address: Any) -> Any:
    """The int64 at an address."""

    def load(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()))

    return types.int64(types.int64), load


@intrinsic
def _put(_context: Any, _address: Any, _value: Any) -> Any:
    """Store a float64 at an address."""

    def store(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], ir.DoubleType().as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.float64), store


@_inner
def _in_set(sets: int, place: int, value: float) -> bool:
    """Whether a category is in a set of a categorical split; what is no category is in none."""
    if not (value > -1.0 and value < _INTEGERS):
        return False
    category = int(value)
    word = category >> 5
    if word >= (place & 0xFFFFFFFF):
        return False
    return bool((_word(sets + 8 * ((place >> 32) + word)) >> (category & 31)) & 1)


@_inner
def _leaf(nodes: int, sets: int, row: int) -> int:
    """The leaf of one tree that a row falls into."""
    node = nodes
    while True:
        word = _word(node + 8)
        value = _number(row + 8 * ((word >> 32) & 0xFFFF))
        flags = word >> 48
        if abs(value) <= ZERO:
            value = 0.0
        if flags & 1:
            left = _in_set(sets, _word(node), value)
        else:
            missing = flags >> 2
            if math.isnan(value) and missing != _NAN:
                value = 0.0
            if (missing == _AS_ZERO and value == 0.0) or math.isnan(value):
                left = flags & 2 != 0
            else:
                left = value <= _number(node)
        child = word & 0xFFFF if left else (word >> 16) & 0xFFFF
        if child & 0x8000:
            return int(0xFFFF - child)
        node = nodes + 16 * child


@_inner
def _transform(pack: int, outputs: int, out: int) -> None:
    """Raw sums to answers."""
    kind = _word(pack + 16)
    averaged = _word(pack + 56)
    sigmoid = _number(pack + 24)
    if averaged:
        for at in range(out, out + 8 * outputs, 8):
            _put(at, _number(at) / averaged)
    if kind == SOFTMAX:
        largest = _number(out)
        for at in range(out, out + 8 * outputs, 8):
            largest = max(largest, _number(at))
        total = 0.0
        for at in range(out, out + 8 * outputs, 8):
            power = math.exp(_number(at) - largest)
            _put(at, power)
            total += power
        for at in range(out, out + 8 * outputs, 8):
            _put(at, _number(at) / total)
        return
    for at in range(out, out + 8 * outputs, 8):
        raw = _number(at)
        if kind == SIGMOID:
            _put(at, 1.0 / (1.0 + math.exp(-sigmoid * raw)))
        elif kind == EXP:
            _put(at, math.exp(raw))
        elif kind == SQUARE:
            sign = 1.0 if raw > 0.0 else (-1.0 if raw < 0.0 else 0.0)
            _put(at, sign * raw * raw)
        elif kind == LOG1P_EXP:
            _put(at, math.log1p(math.exp(raw)))


@_compiled("void(int64, int64, int64)")
def score_row(pack: int, row: int, out: int) -> None:
    """Score one row.

    Args:
        pack: address of a pack's words.
        row: address of the row's float64, one an input of the signature.
        out: address of the answer's float64, one an output of the model.
    """
    trees, outputs = _word(pack), _word(pack + 8)
    nodes, leaves, sets = pack + _word(pack + 32), pack + _word(pack + 40), pack + _word(pack + 48)
    for at in range(out, out + 8 * outputs, 8):
        _put(at, 0.0)
    output = 0
    for tree in range(trees):
        place = _word(pack + _HEAD + 8 * tree)
        first = place >> 32
        leaf = place & 0xFFFFFFFF
        if first >= 0:
            leaf += _leaf(nodes + 16 * first, sets, row)
        at = out + 8 * output
        _put(at, _number(at) + _number(leaves + 8 * leaf))
        output += 1
        if output == outputs:
            output = 0
    if _word(pack + 16) or _word(pack + 56):
        _transform(pack, outputs, out)


@_compiled("void(int64[::1], int64[::1], int64[::1])")
def score_rows(packs: Any, rows: Any, outs: Any) -> None:
    """Score many rows, each with a model of its own: addresses as `score_row` takes them, int64, shape (rows,)."""
    for number in range(len(packs)):
        score_row(packs[number], rows[number], outs[number])


def score(words: Words, rows: Matrix, outputs: int) -> Matrix:
    """Answers of a pack for rows that are C-contiguous in the signature's width; float64, shape (rows, outputs)."""
    count, width = rows.shape
    answers: Matrix = np.empty((count, outputs))
    numbers = np.arange(count)
    packs = np.full(count, words.ctypes.data)
    score_rows(packs, rows.ctypes.data + numbers * (8 * width), answers.ctypes.data + numbers * (8 * outputs))
    return answers
