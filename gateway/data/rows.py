"""Rows of JSON become `Features`: the one place where a payload meets a signature.

A single predict sends objects or arrays, a bulk sends columns or objects; all four end in the same matrix. Errors are
told cell by cell to a `Fault`, so that a single predict can refuse the request and a bulk can refuse just the row.
"""

from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.data.cells import (
    ABSENT,
    EXACT,
    NAN,
    Fault,
    beyond_float64,
    from_key_text,
    is_quick,
    number,
    number_column,
    tell_absent,
    tell_rows,
    text_column,
)
from gateway.errors import BodyInvalidError, FeatureUnknownError, RowWidthError, TooManyRowsError
from registry.errors import Problem
from registry.signature import FLOAT32_MAX, InputSpec, Signature
from workers.features import Features, Matrix

_NOTHING_KIND: Final = type(ABSENT)  # which no cell of JSON is of
MOST_LOOSE_CELLS: Final = 1 << 20  # of objects that leave most of the names out which others use
MOST_CELLS: Final = 1 << 27  # of the inputs and of the outputs of one call: a gibibyte of float64 each


class RowReader:
    """Reads rows for one signature. Immutable after construction; one per group view, shared by all requests.

    Attributes:
        inputs: of the signature, in order.
    """

    def __init__(self, signature: Signature) -> None:
        self.inputs = signature.inputs
        self._most_rows = MOST_CELLS // max(len(signature.inputs), signature.width)
        self._positions = dict(signature.positions)
        self._sent = tuple(spec for spec in signature.inputs if spec.from_key is None)
        self._fed = tuple((i, spec) for i, spec in enumerate(signature.inputs) if spec.from_key is not None)
        # The quick path of a single row: only plain numbers, nothing fed from the key.
        self._plain = (
            tuple((s.name, s.dtype == "float64", ABSENT if s.required else s.default) for s in signature.inputs)
            if all(spec.dtype in ("float64", "int64") for spec in signature.inputs) and not self._fed
            else ()
        )

        self._names = frozenset(spec.name for spec in self._sent)
        self._absent = np.array([_absent_cell(spec) for spec in signature.inputs], dtype=np.float64)

    @cached_property
    def sent_names(self) -> tuple[str, ...]:
        """Names of the inputs a request sends, in signature order (inputs fed from the key are not sent)."""
        return tuple(spec.name for spec in self._sent)

    def row_limit(self, limit: int) -> int:
        """How many rows a call may have where the route takes `limit`: fewer of a signature that is very wide."""
        return min(limit, self._most_rows)

    def instances(self, instances: Sequence[Any], key: Mapping[str, str]) -> Features:
        """Rows of a single predict: objects by name, or arrays in signature order; every row has this key.

        Raises:
            Problem: the first fault, with its row and field.
        """
        if self._plain and len(instances) == 1:
            quick = self._one_plain_row(instances[0])
            if quick is not None:
                return Features(None, cells=quick)

        def refuse(row: int, problem: Problem) -> None:
            problem.row = row
            raise problem

        columns = self._columns_of_instances(instances, refuse)
        features = self.columns(columns, len(instances), refuse)
        return self._fed_from(key, features) if self._fed else features

    def columns(self, columns: Mapping[str, Sequence[Any]], rows: int, fault: Fault) -> Features:
        """Rows given as one sequence of cells an input; an input without a column is absent in every row.

        Inputs fed from the key are left as NaN; see `feed`.
        """
        matrix = np.empty((rows, len(self.inputs)), dtype=np.float64)
        if not self._names <= columns.keys():
            matrix[:] = self._absent  # at one go: a signature may have thousands of inputs that nobody names
        texts: dict[int, Sequence[str | None]] = {}
        exact: dict[int, NDArray[np.int64]] = {}
        hopeless = False  # every row has its fault already, and one is told of each
        for position, spec in enumerate(self.inputs):
            if spec.from_key is not None:
                matrix[:, position] = np.nan
                continue
            cells = columns.get(spec.name)
            if cells is None:
                if spec.required and not hopeless:
                    tell_absent(spec, range(rows), fault)
                    hopeless = True
                if spec.dtype == "string":
                    texts[position] = [spec.default] * rows
                elif spec.dtype == "int64" and spec.default is not None and not -EXACT <= int(spec.default) <= EXACT:
                    exact[position] = np.full(rows, spec.default, dtype=np.int64)
            elif spec.dtype == "string":
                matrix[:, position] = np.nan
                texts[position] = self._texts(spec, cells, fault)
            else:
                big = _fill(matrix, position, spec, cells, fault)
                if big is not None:
                    exact[position] = big
        return Features(matrix, texts, exact)

    def feed(
        self, features: Features, keys: Mapping[str, Sequence[str]], key_rows: NDArray[np.int32], fault: Fault
    ) -> Features:
        """The features with the inputs that are fed from the key, for rows of many keys.

        Args:
            features: of all rows; their matrix is filled in place.
            keys: key field -> its value of each distinct key.
            key_rows: int32, shape (rows,): the key of each row; -1 where it is faulty, which its row is told already.
            fault: is told the rows of keys that cannot feed.
        """
        text, exact = dict(features.text), dict(features.exact)
        for position, spec in self._fed:
            cells = _fed_cells(spec, keys[str(spec.from_key)], key_rows, fault)
            if spec.dtype == "string":
                text[position] = [cells[key] for key in key_rows.tolist()]
                continue
            features.matrix[:, position] = np.array(cells, dtype=np.float64)[key_rows]
            if spec.dtype == "int64":
                big = beyond_float64(np.array([cell or 0 for cell in cells], dtype=np.int64)[key_rows])
                if big is not None:
                    exact[position] = big
        return Features(features.matrix, text, exact)

    def _fed_from(self, key: Mapping[str, str], features: Features) -> Features:
        """As `feed`, where all rows have one key; raises its problem."""
        text, exact = dict(features.text), dict(features.exact)
        for position, spec in self._fed:
            value = from_key_text(spec, key[str(spec.from_key)])
            if isinstance(value, str):
                text[position] = [value] * len(features)
                continue
            features.matrix[:, position] = value
            if type(value) is int and not -EXACT <= value <= EXACT:
                exact[position] = np.full(len(features), value, dtype=np.int64)
        return Features(features.matrix, text, exact)

    @property
    def feeds(self) -> bool:
        """Whether any input is fed from the key."""
        return bool(self._fed)

    def _one_plain_row(self, row: Any) -> list[float] | None:
        """One object row of plain numbers; None if anything about it needs a closer look."""
        if type(row) is not dict or not row.keys() <= self._positions.keys():
            return None
        values: list[float] = []
        for name, takes_floats, default in self._plain:
            cell = row.get(name, default)
            if type(cell) is float:
                if not takes_floats:
                    return None
            elif type(cell) is not int or not -EXACT <= cell <= EXACT:
                return None
            values.append(cell)
        return values

    def _columns_of_instances(self, instances: Sequence[Any], fault: Fault) -> Mapping[str, Sequence[Any]]:
        if type(instances[0]) is list:
            return columns_of_arrays(self.sent_names, instances, fault)
        return self.columns_of_objects(instances, fault)

    def columns_of_objects(
        self, rows: Sequence[Any], fault: Fault, key_fields: tuple[str, ...] = ()
    ) -> dict[str, Sequence[Any]]:
        """Columns of object rows, those of key fields (of a bulk) among them; a faulty row reads as absent cells."""
        allowed = frozenset(self.sent_names).union(key_fields)
        readable: list[dict[str, Any]] = []
        for index, row in enumerate(rows):
            if type(row) is dict and row.keys() <= allowed:
                readable.append(row)
                continue
            if type(row) is not dict:
                fault(index, BodyInvalidError(f"a row here is an object, got {type(row).__name__}"))
            else:
                fault(index, self.unknown(next(name for name in row if name not in allowed)))
            readable.append({})
        named = _named(readable, allowed)
        return {name: [row.get(name, ABSENT) for row in readable] for name in named.union(key_fields)}

    def unknown(self, name: str) -> FeatureUnknownError:
        """The refusal of a name that is no input (or that the key feeds)."""
        position = self._positions.get(name)
        if position is not None:
            return FeatureUnknownError(f"{name!r} is fed from the key; leave it out", field=name)
        return FeatureUnknownError(f"{name!r} is no input; inputs are {list(self.sent_names)}"[:600], field=name)

    @staticmethod
    def _texts(spec: InputSpec, cells: Sequence[Any], fault: Fault) -> list[str | None]:
        if is_quick(spec, set(map(type, cells))):
            return list(cells)
        return text_column(spec, cells, fault)


def _absent_cell(spec: InputSpec) -> float:
    """What stands in the matrix for an input that no row names."""
    if spec.dtype == "string" or spec.required or spec.from_key is not None:
        return NAN
    return number(spec, ABSENT)


def _named(rows: Sequence[Mapping[str, Any]], allowed: frozenset[str]) -> frozenset[str]:
    """The names that any of these rows has.

    Raises:
        TooManyRowsError: if between them they name so much, and each so little of it, that a body of little size would
            become a table of great size.
    """
    given = sum(map(len, rows))
    if given == len(rows) * len(allowed):
        return allowed
    named = frozenset[str]().union(*rows)
    cells = len(rows) * len(named)
    if cells > MOST_LOOSE_CELLS and given * 8 < cells:
        most = MOST_LOOSE_CELLS // len(named)
        raise TooManyRowsError(
            f"{len(rows):,} objects name {len(named):,} inputs between them and few each; send {most:,} such rows at "
            'once, or "columns" and "data"'
        )
    return named


def columns_of_arrays(names: Sequence[str], rows: Sequence[Any], fault: Fault) -> dict[str, Sequence[Any]]:
    """Columns of array rows; a row of another width or type is a fault and reads as nulls."""
    width = len(names)
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {width}:
        rows = [_row_of_width(index, row, names, fault) for index, row in enumerate(rows)]
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def _row_of_width(index: int, row: Any, names: Sequence[str], fault: Fault) -> Sequence[Any]:
    if type(row) is not list:
        fault(index, BodyInvalidError(f"a row here is an array, got {type(row).__name__}"))
    elif len(row) != len(names):
        said = f"the row has {len(row)} cells for {len(names)} columns {list(names)}"
        fault(index, RowWidthError(said[:600]))
    else:
        return row
    return [None] * len(names)


def _fill(
    matrix: Matrix, position: int, spec: InputSpec, cells: Sequence[Any], fault: Fault
) -> NDArray[np.int64] | None:
    """Fill a column of the matrix; answers it as int64 where float64 would lose some of its integers."""
    kinds = set(map(type, cells))
    if _NOTHING_KIND in kinds:
        return _fill_named(matrix, position, spec, cells, fault)
    column = _quick_column(spec, cells) if is_quick(spec, kinds) else None
    if column is None:
        matrix[:, position], exact = number_column(spec, cells, fault)
        return exact
    matrix[:, position] = column
    return beyond_float64(column) if spec.dtype == "int64" else None


def _fill_named(
    matrix: Matrix, position: int, spec: InputSpec, cells: Sequence[Any], fault: Fault
) -> NDArray[np.int64] | None:
    """As `_fill`, where some rows leave the input out; to look at those one by one would take many times as long."""
    named = [row for row, cell in enumerate(cells) if cell is not ABSENT]
    if spec.required:
        tell_absent(spec, sorted(set(range(len(cells))).difference(named)), fault)
    part = np.empty((len(named), 1), dtype=np.float64)
    big = _fill(part, 0, spec, [cells[row] for row in named], lambda at, problem: fault(named[at], problem))
    matrix[:, position] = _absent_cell(spec)
    matrix[named, position] = part[:, 0]
    default = 0 if spec.dtype != "int64" or spec.default is None else int(spec.default)
    if big is None and -EXACT <= default <= EXACT:
        return None
    whole = np.full(len(cells), default, dtype=np.int64)
    whole[named] = big if big is not None else np.nan_to_num(part[:, 0]).astype(np.int64)
    return whole


def _quick_column(spec: InputSpec, cells: Sequence[Any]) -> NDArray[Any] | None:
    """Cells of the right types as one array of the input's dtype; None if one is out of range."""
    try:
        # The standard library's array takes a list of numbers twice as quickly as numpy does.
        if spec.dtype == "int64":
            return np.frombuffer(array("q", cells), dtype=np.int64)
        column = np.frombuffer(array("d", cells), dtype=np.float64)
    except OverflowError:
        return None
    if spec.dtype != "float32":
        return column
    return column.astype(np.float32) if np.abs(column).max(initial=0.0) <= FLOAT32_MAX else None


def _fed_cells(spec: InputSpec, values: Sequence[str], key_rows: NDArray[np.int32], fault: Fault) -> list[Any]:
    """The cell of each key, None of one that cannot feed, and one None more: -1 is the key of a faulty row."""
    cells: list[float | str | None] = []
    problems: dict[int, Problem] = {}
    for place, value in enumerate(values):
        try:
            cells.append(from_key_text(spec, value))
        except Problem as problem:
            problems[place] = problem
            cells.append(None)
    tell_rows(problems, key_rows, fault)
    return [*cells, None]
