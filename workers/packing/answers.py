"""The part of the kernel that turns a pack's raw sums into the signature's columns: transforms and projections.

Compiled into the entry points of `workers.packing.kernel`, which names the state of this file (`COMPILED_IN`).
"""

import math
from typing import Final

from numba import njit

from workers.packing.addresses import number_at, put_at, word_at
from workers.packing.layout import (
    EXP,
    GOOD,
    LABEL_ABOVE_ZERO,
    LABEL_FROM_ZERO,
    LABEL_OF_RAW,
    LOG1P_EXP,
    PROBABILITIES,
    SIGMOID,
    SIGMOID_SHARES,
    SOFTMAX,
    SQUARE,
    UNDECIDED,
)

_inner: Final = njit(error_model="numpy")


@_inner
def transform(pack: int, raw: int, sums: int) -> None:
    """Raw sums to answers."""
    kind = word_at(pack + 40)
    end = sums + 8 * raw
    if kind == SOFTMAX:
        largest = number_at(sums)
        for at in range(sums, end, 8):
            largest = max(largest, number_at(at))
        total = 0.0
        for at in range(sums, end, 8):
            power = math.exp(number_at(at) - largest)
            put_at(at, power)
            total += power
        for at in range(sums, end, 8):
            put_at(at, number_at(at) / total)
        return
    scale = number_at(pack + 48)
    for at in range(sums, end, 8):
        value = number_at(at)
        if kind in (SIGMOID, SIGMOID_SHARES):
            put_at(at, 1.0 / (1.0 + math.exp(-scale * value)))
        elif kind == EXP:
            put_at(at, math.exp(value))
        elif kind == SQUARE:
            sign = 1.0 if value > 0.0 else (-1.0 if value < 0.0 else 0.0)
            put_at(at, sign * value * value)
        elif kind == LOG1P_EXP:
            put_at(at, math.log1p(math.exp(value)))
    if kind == SIGMOID_SHARES:
        total = 0.0
        for at in range(sums, end, 8):
            total += number_at(at)
        for at in range(sums, end, 8):
            put_at(at, number_at(at) / total if total != 0.0 else 1.0 / raw)


@_inner
def first_largest(numbers: int, count: int) -> int:
    """Position of the largest of some numbers as numpy's argmax finds it: the first of equals, or the first NaN."""
    best = 0
    for number in range(count):
        value = number_at(numbers + 8 * number)
        if math.isnan(value):
            return number
        if value > number_at(numbers + 8 * best):
            best = number
    return best


@_inner
def _largest(numbers: int, count: int) -> int:
    """Position of the largest of some numbers, the first of equals; -1 if one is no finite number."""
    for number in range(count):
        if not math.isfinite(number_at(numbers + 8 * number)):
            return -1
    return int(first_largest(numbers, count))


@_inner
def _decided(kind: int, first: float, label_of_raw: int, sums: int, raw: int) -> int:
    """Position of the class that an answer names, -1 if none can be named."""
    if kind == LABEL_ABOVE_ZERO:
        return int(first > 0.0)
    if kind == LABEL_FROM_ZERO:
        return int(first >= 0.0)
    if kind == LABEL_OF_RAW:
        return label_of_raw
    if raw > 1:
        return int(_largest(sums, raw))
    share = number_at(sums)
    if not math.isfinite(share):
        return -1
    return int(share > 1.0 - share)


@_inner
def project(pack: int, raw: int, sums: int, first: float, label_of_raw: int, out: int) -> int:
    """Answers over a model's classes to the signature's columns. `first` is the first raw number."""
    outputs = word_at(pack + 120)
    at = pack + 8 * word_at(pack + 112)
    targets = at + 8 * outputs
    for spec in range(outputs):
        what = word_at(at + 8 * spec)
        kind = what >> 48
        column = out + 8 * (what & 0xFFFFFF)
        if kind != PROBABILITIES:
            chosen = _decided(kind, first, label_of_raw, sums, raw)
            if chosen < 0:
                return UNDECIDED
            put_at(column, float(word_at(targets + 8 * chosen)))
            continue
        for number in range((what >> 24) & 0xFFFFFF):
            put_at(column + 8 * number, 0.0)
        if raw == 1:
            put_at(column + 8 * word_at(targets), 1.0 - number_at(sums))
            put_at(column + 8 * word_at(targets + 8), number_at(sums))
        else:
            for number in range(raw):
                put_at(column + 8 * word_at(targets + 8 * number), number_at(sums + 8 * number))
    return GOOD
