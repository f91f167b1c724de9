"""The part of the kernel that sums the terms of linear packs (`workers.packing.linear`).

Compiled into the entry points of `workers.packing.kernel`, which names the state of this file (`COMPILED_IN`).
"""

import math
from typing import Final

from numba import njit

from workers.packing.addresses import number_at, put_at, word_at
from workers.packing.layout import GOOD, INFINITE, MISSING, UNKNOWN
from workers.packing.linear import (
    ADD,
    AT_LEAST,
    AT_MOST,
    DIVIDE,
    IMPUTE,
    MULTIPLY,
    NO_INFINITY,
    NUMBER,
    REFUSED,
    SUBTRACT,
)

_inner: Final = njit(error_model="numpy")


@_inner
def _operated(code: int, operand: float, value: float) -> float:
    """A value after one operation."""
    if code == SUBTRACT:
        return value - operand
    if code == DIVIDE:
        return value / operand
    if code == MULTIPLY:
        return value * operand
    if code == ADD:
        return value + operand
    if code == IMPUTE:
        return operand if math.isnan(value) else value
    if code == AT_LEAST:
        return operand if value < operand else value  # noqa: FURB136 - max must keep NaN here, whatever numba does
    if code == AT_MOST:
        return operand if value > operand else value  # noqa: FURB136 - as above
    return value


@_inner
def _entry(values: int, count: int, value: float) -> int:
    """The position of a value among ascending ones, NaN being last; -1 if it is none of them."""
    if count == 0:
        return -1
    if math.isnan(value):
        return count - 1 if math.isnan(number_at(values + 8 * (count - 1))) else -1
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if number_at(values + 8 * middle) < value:
            low = middle + 1
        else:
            high = middle
    return low if low < count and number_at(values + 8 * low) == value else -1


@_inner
def _add(sums: int, raw: int, weights: int, value: float) -> None:
    """Add a value's weight to each raw number."""
    for at in range(0, 8 * raw, 8):
        put_at(sums + at, number_at(sums + at) + value * number_at(weights + at))


@_inner
def sum_terms(pack: int, row: int, sums: int) -> int:
    """Add up the terms of a pack; answers what became of the row."""
    raw = word_at(pack + 24)
    at = pack + 8 * word_at(pack + 96)
    for _ in range(word_at(pack + 16)):
        head, kind = word_at(at), word_at(at + 8)
        value = number_at(row + 8 * (head & 0x7FFF))
        at += 16
        end = at + 16 * ((head >> 16) & 0xFFFF)
        while at < end:
            code = word_at(at)
            if code == NO_INFINITY and math.isinf(value):
                return INFINITE
            value = _operated(code, number_at(at + 8), value)
            at += 16
        if kind == NUMBER:
            if not math.isfinite(value):
                return MISSING if math.isnan(value) else INFINITE
            _add(sums, raw, at, value)
            at += 8 * raw
            continue
        count = head >> 32
        found = _entry(at, count, value)
        if found >= 0:
            _add(sums, raw, at + 8 * (count + found * raw), 1.0)
        elif kind == REFUSED:
            return UNKNOWN
        at += 8 * count * (1 + raw)
    return GOOD
