"""Key columns of a bulk become distinct keys and, for each row, the position of its key.

A bulk of many rows has far fewer keys, so each distinct key is checked and later resolved once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.data.cells import ABSENT, Fault, tell_rows
from registry.errors import KeyFieldMissingError, Problem
from registry.keys import MAX_VALUE_BYTES, KeySchema, key_text

_CLEAN: Final = frozenset({str, int})


@dataclass(slots=True)
class KeyRows:
    """Distinct keys of a call.

    Attributes:
        keys: checked text values in field order.
        rows: int32, shape (rows,): position in `keys`; -1 where the row's key is faulty.
    """

    keys: list[tuple[str, ...]]
    rows: NDArray[np.int32]


def read_keys(schema: KeySchema, columns: Sequence[Sequence[Any]], fault: Fault) -> KeyRows:
    """Distinct keys of rows given as one column of cells a key field; faulty keys are told to `fault`."""
    if all(map(_is_clean, columns)):
        return _distinct(columns)
    raw = columns
    if not all(set(map(type, column)) <= _CLEAN for column in columns):
        raw = [_checked(field, column, fault) for field, column in zip(schema.fields, columns, strict=True)]
    index: dict[tuple[Any, ...], int] = {}
    rows = np.array([index.setdefault(values, len(index)) for values in zip(*raw, strict=True)], dtype=np.intp)
    keys: list[tuple[str, ...]] = []
    places: list[int] = []
    problems: dict[int, Problem] = {}
    for distinct, values in enumerate(index):
        try:
            keys.append(tuple(map(key_text, values, schema.fields)))
            places.append(len(keys) - 1)
        except Problem as problem:
            problems[distinct] = problem
            places.append(-1)
    tell_rows(problems, rows, fault)
    return KeyRows(keys, np.array(places, dtype=np.int32)[rows])


def joined_keys(parts: Sequence[KeyRows]) -> KeyRows:
    """The keys of portions, one behind the other, as those of the whole."""
    if len(parts) == 1:
        return parts[0]
    index: dict[tuple[str, ...], int] = {}
    rows = []
    for part in parts:
        # One more, so that a faulty key's -1 stays -1.
        places = [index.setdefault(key, len(index)) for key in part.keys]
        rows.append(np.array([*places, -1], dtype=np.int32)[part.rows])
    return KeyRows(list(index), np.concatenate(rows))


def _is_clean(column: Sequence[Any]) -> bool:
    """Whether a column is all short, non-empty ASCII text, which is what `key_text` would find cell by cell."""
    if set(map(type, column)) != {str} or not all(column):
        return False
    joined = "".join(column)
    return joined.isascii() and (len(joined) <= MAX_VALUE_BYTES or max(map(len, column)) <= MAX_VALUE_BYTES)


def _distinct(columns: Sequence[Sequence[str]]) -> KeyRows:
    keys = list(zip(*columns, strict=True))
    index = dict.fromkeys(keys)
    if len(index) == len(keys):  # a row a key
        return KeyRows(keys, np.arange(len(keys), dtype=np.int32))
    places = dict(zip(index, range(len(index)), strict=True))
    return KeyRows(list(places), np.array([places[key] for key in keys], dtype=np.int32))


def _checked(field: str, column: Sequence[Any], fault: Fault) -> list[str]:
    texts: list[str] = []
    for row, cell in enumerate(column):
        try:
            if cell is ABSENT:
                raise KeyFieldMissingError(f"the row lacks the key field {field!r}", field=field)
            texts.append(key_text(cell, field))
        except Problem as problem:
            fault(row, problem)
            texts.append("")  # refused again below, where the first fault of the row stands
    return texts
