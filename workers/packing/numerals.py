"""Decimal numbers of a model text, thousands at a time: the parser that packing a fleet waits for.

Reading seventeen-digit numbers one by one into Python objects takes longer than all else that packing does. Here they
are read where they stand, exactly: the nearest float64 by the method of Eisel and Lemire (D. Lemire, "Number Parsing
at a Gigabyte per Second", Software: Practice and Experience 51, 2021), and what that method leaves undecided, or what
is no plain number, by Python itself.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from workers.packing.addresses import bits_of, byte_at
from workers.packing.compiling import compiled

COMPILED_IN: Final = ("addresses",), "0f959547e5b5"  # as in `workers.packing.kernel`

_LEAST, _MOST = -342, 308  # powers of ten that a finite, normal float64 may need
_SPACE, _NEWLINE, _PLUS, _MINUS, _POINT, _ZERO, _LOWER_E = 32, 10, 43, 45, 46, 48, 101
_DIGITS: Final = 19  # what 64 bits hold of any digits

_U0, _U1, _U9, _U10, _U32, _U63 = (np.uint64(number) for number in (0, 1, 9, 10, 32, 63))
_LOW: Final = np.uint64(0xFFFFFFFF)
_EDGE: Final = np.uint64(0x1FF)
_FRACTION: Final = np.uint64((1 << 52) - 1)
_MANTISSAS: Final = np.uint64(1 << 53)
_PLACES: Final = 52

_inner: Final = njit(error_model="numpy")


def _powers() -> NDArray[np.uint64]:
    """For each power of ten the first 128 bits of its binary digits, high and low word, cut off."""
    table = np.empty((_MOST - _LEAST + 1, 2), dtype=np.uint64)
    for power in range(_LEAST, _MOST + 1):
        if power >= 0:
            bits = 10**power
            bits = bits >> (bits.bit_length() - 128) if bits.bit_length() > 128 else bits << (128 - bits.bit_length())
        else:
            below = 10**-power
            bits = (1 << (below.bit_length() + 127)) // below
            bits >>= bits.bit_length() - 128
        table[power - _LEAST] = bits >> 64, bits & ((1 << 64) - 1)
    return table


_POWERS: Final = _powers()
_EXACT_POWERS: Final = np.array([10.0**power for power in range(23)])  # the powers of ten that are float64 themselves


@_inner
def _leading_zeros(word: Any) -> int:
    count = 0
    for step in (32, 16, 8, 4, 2, 1):
        if word >> np.uint64(64 - step) == _U0:
            count += step
            word <<= np.uint64(step)
    return count


@_inner
def _product(one: Any, other: Any) -> Any:
    """The high and low word of a product."""
    a, b, c, d = one >> _U32, one & _LOW, other >> _U32, other & _LOW
    low, middle = b * d, a * d
    carried = middle + (low >> _U32)
    second = (carried & _LOW) + b * c
    return a * c + (carried >> _U32) + (second >> _U32), (second << _U32) | (low & _LOW)


@_inner
def _nearest(digits: Any, power: int) -> Any:
    """The bits of the float64 nearest to digits * 10**power, above zero; 0 where that is not certain."""
    if digits < _MANTISSAS and abs(power) < len(_EXACT_POWERS):
        # Both are float64, so their quotient or product is rounded once (W. Clinger, "How to Read Floating Point
        # Numbers Accurately", PLDI 1990).
        number, factor = float(digits), _EXACT_POWERS[abs(power)]
        return bits_of(number * factor if power >= 0 else number / factor)
    if power < _LEAST or power > _MOST:
        return _U0
    shift = _leading_zeros(digits)
    wide = digits << np.uint64(shift)
    exponent = ((217706 * power) >> 16) + 64 + 1023 - shift
    high, low = _product(wide, _POWERS[power - _LEAST, 0])
    if high & _EDGE == _EDGE and low + wide < low:
        more, rest = _product(wide, _POWERS[power - _LEAST, 1])
        summed = low + more
        if summed < low:
            high += _U1
        low = summed
        if high & _EDGE == _EDGE and low + _U1 == _U0 and rest + wide < rest:
            return _U0
    top = high >> _U63
    mantissa = high >> (top + _U9)
    exponent -= 1 - np.int64(top)
    if low == _U0 and high & _EDGE == _U0 and mantissa & np.uint64(3) == _U1:
        return _U0  # exactly between two
    mantissa = (mantissa + (mantissa & _U1)) >> _U1
    if mantissa >= _MANTISSAS:
        mantissa >>= _U1
        exponent += 1
    if exponent < 1 or exponent > 2046:
        return _U0
    return (np.uint64(exponent) << np.uint64(_PLACES)) | (mantissa & _FRACTION)


@_inner
def _digits(at: int, digits: Any) -> Any:
    """Take in the digits from an address on; where they end, and their number."""
    digit = byte_at(at) - _ZERO
    while 0 <= digit <= 9:
        digits = digits * _U10 + np.uint64(digit)
        at += 1
        digit = byte_at(at) - _ZERO
    return at, digits


@_inner
def read_number(start: int) -> Any:
    """The bits of the float64 spelled from an address on, where it ends, and whether it was read.

    Whatever is read ends at a space or a line's end, so there is always a byte to stop at.
    """
    negative = byte_at(start) == _MINUS
    first = start + 1 if negative else start
    while byte_at(first) == _ZERO and 0 <= byte_at(first + 1) - _ZERO <= 9:
        first += 1
    at, digits = _digits(first, _U0)
    seen, count, power = at - first, at - first, 0
    if byte_at(at) == _POINT:
        point = at
        first = at + 1
        if digits == _U0:
            count = 0
            while byte_at(first) == _ZERO:
                first += 1
        at, digits = _digits(first, digits)
        if at == point + 1:
            return _U0, at, False
        seen += at - point - 1
        count += at - first
        power = point + 1 - at
    if seen == 0 or count > _DIGITS:
        return _U0, at, False
    if byte_at(at) | 32 == _LOWER_E:
        sign = byte_at(at + 1)
        first = at + 2 if sign in (_MINUS, _PLUS) else at + 1
        at, written = _digits(first, _U0)
        if at == first or at - first > 4:
            return _U0, at, False
        power += int(-np.int64(written) if sign == _MINUS else np.int64(written))
    bits = _U0
    if digits != _U0:
        bits = _nearest(digits, power)
        if bits == _U0:
            return _U0, at, False
    return bits | (np.uint64(negative) << _U63), at, True


@_inner
def _read_whole(start: int) -> Any:
    """As `read_number`, for a whole number."""
    negative = byte_at(start) == _MINUS
    first = start + 1 if negative else start
    at, digits = _digits(first, _U0)
    value = np.int64(digits)
    return np.uint64(-value if negative else value), at, 0 < at - first < _DIGITS


@compiled("int64(int64, int64, boolean, uint64[::1], int64[::1], int64[:, ::1])")
def _parse(start: int, end: int, whole: bool, words: Any, counts: Any, odd: Any) -> int:
    """Read all tokens into `words`, count those of each line; answers how many stand in `odd`: word, start, end."""
    line, found, odds, before, at = 0, 0, 0, 0, start
    while at < end:
        code = byte_at(at)
        if code == _NEWLINE:
            counts[line] = found - before
            before = found
            line += 1
        if code in (_NEWLINE, _SPACE):
            at += 1
            continue
        bits, stop, read = _read_whole(at) if whole else read_number(at)
        if not read or byte_at(stop) not in (_NEWLINE, _SPACE):
            while byte_at(stop) not in (_NEWLINE, _SPACE):
                stop += 1
            odd[odds, 0], odd[odds, 1], odd[odds, 2] = found, at - start, stop - start
            odds += 1
        words[found] = bits
        found += 1
        at = stop
    return odds


def floats(lines: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many numbers each line has, and all of them, float64, as Python's `float` reads them.

    Args:
        lines: numbers with spaces between; there is no line end in any.

    Raises:
        ValueError: if something is no number.
    """
    counts, words = _numbers(lines, float)
    return counts, words.view(np.float64)


def wholes(lines: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `floats`, for whole numbers. Raises OverflowError besides, if one does not fit in int64."""
    return _numbers(lines, int)


def _numbers(lines: Sequence[bytes], kind: type) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    text = b"\n".join(lines) + b"\n"
    start = np.frombuffer(text, dtype=np.uint8).ctypes.data
    counts = np.zeros(len(lines), dtype=np.int64)
    words = np.empty(len(text) // 2, dtype=np.uint64)
    odd = np.empty((len(words), 3), dtype=np.int64)
    odds = _parse(start, start + len(text), kind is int, words, counts, odd)
    for word, first, end in odd[:odds].tolist():
        token = text[first:end]
        words[word] = np.int64(int(token)).view(np.uint64) if kind is int else np.float64(float(token)).view(np.uint64)
    return counts, words[: int(counts.sum())].view(np.int64)
