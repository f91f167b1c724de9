"""Checking cells: one column of JSON values becomes one column of a float64 matrix, or says which cell is wrong.

Cells are judged by their JSON type before any conversion, so that a bool or a numeric string is never taken for a
number. Whole columns are judged at once by the set of their types, which for clean input costs a few nanoseconds a
cell; only a column with something odd in it is looked at cell by cell.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.errors import FeatureMissingError, FeatureNullError, FeatureTypeError
from registry.errors import Problem
from registry.signature import FLOAT32_MAX, InputSpec, cell_of_text, timestamp_micros

ABSENT: Final = object()
EXACT: Final = 1 << 53  # the largest integer up to which float64 holds every integer
NAN: Final = float("nan")

Fault = Callable[[int, Problem], object]  # told (row, problem) for each bad cell

_QUICK: Final[dict[str, frozenset[type]]] = {
    "float64": frozenset({float, int}),
    "float32": frozenset({float, int}),
    "int64": frozenset({int}),
    "bool": frozenset({bool}),
    "string": frozenset({str}),
    "timestamp": frozenset(),
}


def is_quick(spec: InputSpec, kinds: set[type]) -> bool:
    """Whether a column holding only these types needs no look at its cells.

    Integers of an int64 input still have to be compared with its range (`fits_int64`).
    """
    return kinds <= _QUICK[spec.dtype] and not spec.categories


def number(spec: InputSpec, cell: Any) -> float:
    """One cell of a non-string input as float64; missing is NaN.

    Raises:
        FeatureMissingError, FeatureNullError, FeatureTypeError: naming the input, without a row.
    """
    if cell is ABSENT or cell is None:
        return _number_of_nothing(spec, cell)
    kind = type(cell)
    match spec.dtype:
        case "float64" if kind is float or kind is int:
            return float(cell)
        case "float32" if kind is float or kind is int:
            return _to_float32(spec, float(cell))
        case "int64" if (kind is int or (kind is float and cell.is_integer())) and -(2**63) <= cell < 2**63:
            return float(cell)
        case "bool" if kind is bool:
            return float(cell)
        case "timestamp" if kind is str:
            return _micros(spec, cell)
    raise FeatureTypeError(f"{spec.name!r} must be {_expected(spec)}, got {_said(cell)}", field=spec.name)


def text(spec: InputSpec, cell: Any) -> str | None:
    """One cell of a string input; missing is None.

    Raises:
        FeatureMissingError, FeatureNullError, FeatureTypeError: naming the input, without a row.
    """
    if cell is ABSENT:
        _refuse_absent(spec)
        cell = spec.default
    if cell is None:
        _refuse_null(spec)
        return None
    if type(cell) is not str or (spec.categories and cell not in spec.categories):
        raise FeatureTypeError(f"{spec.name!r} must be {_expected(spec)}, got {_said(cell)}", field=spec.name)
    return cell


def number_column(spec: InputSpec, cells: Sequence[Any], fault: Fault) -> tuple[list[float], NDArray[np.int64] | None]:
    """A column as floats, and beside it as int64 where an integer is past what float64 holds exactly."""
    floats: list[float] = []
    exact = False
    for row, cell in enumerate(cells):
        try:
            value = number(spec, cell)
        except Problem as problem:
            fault(row, problem)
            value = NAN
        floats.append(value)
        exact = exact or (spec.dtype == "int64" and abs(value) > EXACT)
    return floats, _exact_column(cells) if exact else None


def tell_absent(spec: InputSpec, rows: Iterable[int], fault: Fault) -> None:
    """Tell rows that leave out an input which has no default; they share their problem."""
    problem = _absent(spec)
    for row in rows:
        fault(row, problem)


def beyond_float64(column: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The column, if float64 would lose some of its integers; None if not."""
    return column if column.max(initial=0) > EXACT or column.min(initial=0) < -EXACT else None


def text_column(spec: InputSpec, cells: Sequence[Any], fault: Fault) -> list[str | None]:
    """A string column; faulty cells are None. Rows without a text share their problem: there may be millions."""
    texts: list[str | None] = []
    missing: Problem | None = None
    for row, cell in enumerate(cells):
        if cell is None and missing is not None:
            fault(row, missing)
            texts.append(None)
            continue
        try:
            texts.append(text(spec, cell))
        except Problem as problem:
            fault(row, problem)
            texts.append(None)
            missing = problem if cell is None else missing
    return texts


def tell_rows(problems: Mapping[int, Problem], places: NDArray[np.integer[Any]], fault: Fault) -> None:
    """Tell each row that refers to something faulty; the rows share its problem.

    Args:
        problems: by place.
        places: shape (rows,): what each row refers to.
        fault: is told.
    """
    if problems:
        for row in np.flatnonzero(np.isin(places, list(problems))).tolist():
            fault(row, problems[int(places[row])])


def from_key_text(spec: InputSpec, value: str) -> float | str:
    """The cell that a key value feeds to an input: text stays text, numbers are read from it, of an int64 as int.

    Raises:
        FeatureTypeError: if the text is no value of the input's dtype, or none of its categories.
    """
    if spec.dtype == "string":
        return str(text(spec, value))
    try:
        cell = cell_of_text(spec.dtype, value)
        return int(cell) if spec.dtype == "int64" else number(spec, cell)
    except ValueError as error:
        raise FeatureTypeError(
            f"the key field {spec.from_key!r} feeds {spec.name!r}, which must be {_expected(spec)}, got {value!r}",
            field=spec.name,
        ) from error


def _number_of_nothing(spec: InputSpec, cell: Any) -> float:
    if cell is ABSENT:
        _refuse_absent(spec)
        return NAN if spec.default is None else number(spec, spec.default)
    _refuse_null(spec)
    return NAN


def _refuse_absent(spec: InputSpec) -> None:
    if spec.required:
        raise _absent(spec)


def _absent(spec: InputSpec) -> FeatureMissingError:
    return FeatureMissingError(f"the input {spec.name!r} is missing and has no default", field=spec.name)


def _refuse_null(spec: InputSpec) -> None:
    if not spec.nullable:
        raise FeatureNullError(f"{spec.name!r} is null, and it is not nullable", field=spec.name)


def _exact_column(cells: Sequence[Any]) -> NDArray[np.int64]:
    inside = (cell if type(cell) in (int, float) and -(2**63) <= cell < 2**63 else 0 for cell in cells)
    return np.fromiter((int(cell) for cell in inside), dtype=np.int64, count=len(cells))


def _to_float32(spec: InputSpec, value: float) -> float:
    if abs(value) > FLOAT32_MAX:
        raise FeatureTypeError(f"{spec.name!r} is beyond the range of float32: {value!r}", field=spec.name)
    return float(np.float32(value))


def _micros(spec: InputSpec, cell: str) -> float:
    try:
        return float(timestamp_micros(cell))
    except ValueError as error:
        raise FeatureTypeError(
            f"{spec.name!r} must be {_expected(spec)}, got {_said(cell)}", field=spec.name
        ) from error


def _expected(spec: InputSpec) -> str:
    if spec.categories:
        shown = list(spec.categories[:8])
        return f"one of {shown}" + (" and others" if len(spec.categories) > len(shown) else "")
    return {
        "float64": "a number",
        "float32": "a number",
        "int64": "an integer of 64 bits",
        "bool": "true or false",
        "string": "text",
        "timestamp": "an RFC 3339 timestamp",
    }[spec.dtype]


def _said(cell: Any) -> str:
    return f"{type(cell).__name__} {cell!r}"[:60]
