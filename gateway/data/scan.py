"""The rows of a plain JSON bulk, read where they stand: no list, no number and no text becomes an object of Python's.

Most bulks are arrays of numbers and short ASCII key values, and to parse those into objects and then gather the objects
into columns takes as long as scoring the rows. What is compiled here reads them straight into the matrix, and gives up
at the first cell that is anything else: then the whole bulk is parsed the ordinary way, which also says what is wrong.
So what is read here is a part of JSON (RFC 8259), never more than that.
"""

import os
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from registry.keys import MAX_VALUE_BYTES
from workers.features import Matrix
from workers.packing.addresses import byte_at
from workers.packing.compiling import compiled
from workers.packing.numerals import read_number

COMPILED_IN: Final = ("addresses", "numerals"), "4a6c31696cc4"  # as in `workers.packing.kernel`

# What a column holds: numbers, whole numbers that float64 holds exactly, true and false, key values; or one of them or
# null.
NUMBER, WHOLE, FLAG, KEY = range(4)
NULLABLE: Final = 8

_OPEN, _CLOSE, _COMMA, _QUOTE, _BACKSLASH, _MINUS = 91, 93, 44, 34, 92, 45
_ZERO, _NINE, _LOWER_E, _LOWER_N, _LOWER_T, _LOWER_F = 48, 57, 101, 110, 116, 102
_TAB, _NEWLINE, _RETURN, _SPACE, _DELETE = 9, 10, 13, 32, 127
_LONGEST: Final = 15  # digits of a whole number that float64 surely holds
_LONGEST_KEY: Final = 18
_NAN_BITS: Final = np.uint64(0x7FF8000000000000)
_NEGATIVE_ZERO: Final = np.uint64(1 << 63)

_SEED: Final = np.uint64(int.from_bytes(os.urandom(8)))  # so that nobody can know which keys fall together
_PRIME: Final = np.uint64(0x100000001B3)
_BETWEEN: Final = np.uint64(256)  # what no byte is
_HIGH: Final = np.uint64(32)
_FARTHEST: Final = 64  # places looked at for a key

_inner: Final = njit(error_model="numpy")


@_inner
def _behind_blanks(at: int) -> int:
    code = byte_at(at)
    while code in (_SPACE, _NEWLINE, _RETURN, _TAB):
        at += 1
        code = byte_at(at)
    return at


@_inner
def _is_digit(at: int) -> bool:
    return bool(_ZERO <= byte_at(at) <= _NINE)


@_inner
def _behind_whole(at: int, longest: int) -> int:
    """Where a whole number ends that is written as JSON and Python write it; 0 if there is none."""
    first = at + 1 if byte_at(at) == _MINUS else at
    if byte_at(first) == _ZERO:
        return 0 if first > at or _is_digit(first + 1) else first + 1
    end = first
    while _is_digit(end):
        end += 1
    return end if 0 < end - first <= longest else 0


@_inner
def _behind_word(at: int, one: int, two: int, three: int) -> int:
    """Where the word of these letters ends, of which the first is known; 0 if it is another."""
    return at + 4 if byte_at(at + 1) == one and byte_at(at + 2) == two and byte_at(at + 3) == three else 0


@_inner
def _behind_null(at: int) -> int:
    return _behind_word(at, 117, 108, 108) if byte_at(at) == _LOWER_N else 0


@_inner
def _flag(at: int) -> Any:
    """Whether `true` or `false` stands here, and where it ends, 0 if neither."""
    if byte_at(at) == _LOWER_T:
        return 1.0, _behind_word(at, 114, 117, 101)
    if byte_at(at) == _LOWER_F and byte_at(at + 1) == 97:
        return 0.0, _behind_word(at + 1, 108, 115, 101)
    return 0.0, 0


@_inner
def _whole(at: int) -> Any:
    """A whole number, and where it ends, 0 if there is none."""
    end = _behind_whole(at, _LONGEST)
    value = 0
    for place in range(at, end):
        if byte_at(place) != _MINUS:
            value = 10 * value + byte_at(place) - _ZERO
    return float(-value if byte_at(at) == _MINUS else value), end


@_inner
def _number(at: int) -> Any:
    """The bits of a number, and where it ends, 0 if there is none; what Python would read alike."""
    first = at + 1 if byte_at(at) == _MINUS else at
    if not _is_digit(first) or (byte_at(first) == _ZERO and _is_digit(first + 1)):
        return _NAN_BITS, 0
    bits, end, read = read_number(at)
    # Minus zero is a whole number to one parser and a fraction to another.
    return bits, (end if read and bits != _NEGATIVE_ZERO else 0)


@_inner
def _key(at: int, most: int) -> Any:
    """Where a key value begins and ends, and where its cell ends, 0 if it is none: a whole number, or text.

    `most` bytes are the longest text.
    """
    if byte_at(at) != _QUOTE:
        end = _behind_whole(at, _LONGEST_KEY)
        return at, end, end
    first = at + 1
    end = first
    code = byte_at(end)
    while _SPACE <= code <= _DELETE and code not in (_QUOTE, _BACKSLASH):
        end += 1
        code = byte_at(end)
    return first, end, (end + 1 if code == _QUOTE and 0 < end - first <= most else 0)


@compiled("int64(int64, int64, int64[::1], int64[::1], float64[:, ::1], uint64[:, ::1], int32[:, :, ::1], int64)")
def _scan(start: int, end: int, kinds: Any, places: Any, matrix: Any, words: Any, spans: Any, most: int) -> int:
    """Read array rows, with commas between, up to `end`, where a zero byte stands; answers how many, -1 if it gave up.

    `words` are the bits of `matrix`, `most` bytes the longest key value; what else is asked and filled `scan` says.
    """
    last = len(kinds) - 1
    at = _behind_blanks(start)
    for row in range(len(matrix)):
        if byte_at(at) != _OPEN:
            return -1
        at += 1
        for column in range(last + 1):
            at = _behind_blanks(at)
            kind, place = kinds[column], places[column]
            behind = _behind_null(at) if kind & NULLABLE else 0
            kind &= NULLABLE - 1
            if behind:
                words[row, place] = _NAN_BITS
            elif kind == NUMBER:
                words[row, place], behind = _number(at)
            elif kind == WHOLE:
                matrix[row, place], behind = _whole(at)
            elif kind == FLAG:
                matrix[row, place], behind = _flag(at)
            else:
                first, stop, behind = _key(at, most)
                spans[place, 0, row], spans[place, 1, row] = first - start, stop - start
            if not behind:
                return -1
            at = _behind_blanks(behind)
            if byte_at(at) != (_COMMA if column < last else _CLOSE):
                return -1
            at += 1
        at = _behind_blanks(at)
        if at == end:
            return row + 1
        if byte_at(at) != _COMMA:
            return -1
        at = _behind_blanks(at + 1)
    return -1


def scan(
    rows: bytes, kinds: NDArray[np.int64], places: NDArray[np.int64], matrix: Matrix, spans: NDArray[np.int32]
) -> int:
    """Read array rows of JSON, with commas between; answers how many, -1 if anything is not as plain as it must be.

    Args:
        rows: what stands between the brackets of the list of rows.
        kinds: what each column holds, shape (columns,).
        places: int64, shape (columns,): column of `matrix`, or of a key value the number of its field.
        matrix: float64, C-contiguous, shape (most rows, inputs), filled.
        spans: int32, shape (fields, 2, most rows), filled: where in `rows` each key value begins and ends.
    """
    start = np.frombuffer(rows, dtype=np.uint8).ctypes.data
    words = matrix.view(np.uint64)
    found: int = _scan(start, start + len(rows), kinds, places, matrix, words, spans, MAX_VALUE_BYTES)
    return found


@_inner
def _mixed(start: int, spans: Any, row: int, seed: Any) -> Any:
    """A hash of a row's key values (FNV-1a by G. Fowler, L. C. Noll and K.-P. Vo, folded)."""
    mixed = seed
    for field in range(len(spans)):
        for at in range(start + spans[field, 0, row], start + spans[field, 1, row]):
            mixed = (mixed ^ np.uint64(byte_at(at))) * _PRIME
        mixed = (mixed ^ _BETWEEN) * _PRIME
    return mixed ^ (mixed >> _HIGH)


@_inner
def _same(start: int, spans: Any, row: int, other: int) -> bool:
    """Whether two rows have the same key values."""
    for field in range(len(spans)):
        first, second = spans[field, 0, row], spans[field, 0, other]
        length = spans[field, 1, row] - first
        if spans[field, 1, other] - second != length:
            return False
        for at in range(start, start + length):
            if byte_at(at + first) != byte_at(at + second):
                return False
    return True


@compiled("int64(int64, int32[:, :, ::1], uint64, int32[::1], int32[::1], int32[::1])")
def _number_keys(start: int, spans: Any, seed: Any, slots: Any, key_rows: Any, firsts: Any) -> int:
    """See `number_keys`; `slots` are zeros, a power of two of them, `firsts` is filled with each key's first row."""
    keys = 0
    for row in range(len(key_rows)):
        slot = np.int64(_mixed(start, spans, row, seed)) & (len(slots) - 1)
        looked = 0
        while slots[slot] and not _same(start, spans, row, firsts[slots[slot] - 1]):
            slot = (slot + 1) & (len(slots) - 1)
            looked += 1
            if looked == _FARTHEST:
                return -1
        if not slots[slot]:
            firsts[keys] = row
            keys += 1
            slots[slot] = keys
        key_rows[row] = slots[slot] - 1
    return keys


def number_keys(
    rows: bytes, spans: NDArray[np.int32], count: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """The first row of each distinct key, and for each row the number of its key; None if too many fall together.

    Args:
        rows: as `scan` read them.
        spans: as `scan` filled them.
        count: of rows.
    """
    slots = np.zeros(2 << count.bit_length(), dtype=np.int32)
    key_rows = np.empty(count, dtype=np.int32)
    firsts = np.empty(count, dtype=np.int32)
    keys = _number_keys(np.frombuffer(rows, dtype=np.uint8).ctypes.data, spans, _SEED, slots, key_rows, firsts)
    return None if keys < 0 else (firsts[:keys], key_rows)


@compiled("int64(int64, int32[:, :, ::1], int32[::1], uint8[::1])")
def _gather(start: int, spans: Any, chosen: Any, text: Any) -> int:
    """Copy the key values of some rows, a line each; answers how many bytes."""
    size = 0
    for row in chosen:
        for field in range(len(spans)):
            for at in range(start + spans[field, 0, row], start + spans[field, 1, row]):
                text[size] = byte_at(at)
                size += 1
            text[size] = _NEWLINE
            size += 1
    return size


def key_values(rows: bytes, spans: NDArray[np.int32], chosen: NDArray[np.int32]) -> list[tuple[str, ...]]:
    """The key values of some rows, field by field.

    Args:
        rows: as `scan` read them.
        spans: as `scan` filled them.
        chosen: numbers of rows, none twice.
    """
    fields = len(spans)
    room = np.empty(len(rows) + fields * len(chosen), dtype=np.uint8)
    size = _gather(np.frombuffer(rows, dtype=np.uint8).ctypes.data, spans, chosen, room)
    values = room[:size].tobytes().decode("ascii").split("\n")  # key values are ASCII and hold no line's end
    return list(zip(*[values[field:-1:fields] for field in range(fields)], strict=True))
