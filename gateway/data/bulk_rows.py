"""The body of a bulk request, read into keys, features and per-row errors.

Whatever the format, the outcome is the same `BulkRows`: one bad row is an error of that row and never of the others,
while what concerns all rows (columns, limits) refuses the request.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from discovery.snapshot import GroupView
from gateway.data.cells import Fault
from gateway.data.keycolumns import KeyRows, joined_keys, read_keys
from gateway.data.portions import cut
from gateway.data.rows import RowReader, columns_of_arrays
from gateway.errors import BodyInvalidError, JsonInvalidError, RowsEmptyError, TooManyRowsError
from registry.errors import KeyFieldMissingError, Problem
from registry.keys import KeySchema
from workers.features import Features, joined

# Keys and features of array rows, from the schema, the reader, the columns' names, the rows' bytes and a limit of rows;
# None if they must be parsed.
PlainReader = Callable[[KeySchema, RowReader, Sequence[str], bytes, int], tuple[KeyRows, Features] | None]

_NOTHING: Final[Mapping[str, int]] = {}
_FIELDS: Final = frozenset({"columns", "data", "rows", "max_fallback_level", "explain"})


@dataclass(slots=True)
class BulkRows:
    """A bulk, ready to score.

    Attributes:
        total: rows of the request.
        keys: distinct keys.
        key_rows: int32, shape (len(places),): key of each scored row.
        places: intp, shape (scored rows,): row of the request each scored row came from.
        features: the scored rows.
        errors: row of the request -> why it is not scored.
        max_level, explain: what the caller asked.
    """

    total: int
    keys: Sequence[tuple[str, ...]]
    key_rows: NDArray[np.int32]
    places: NDArray[np.intp]
    features: Features
    errors: dict[int, Problem]
    max_level: int
    explain: bool


def parse_json(raw: bytes) -> Any:
    """JSON of a body; nesting is bounded by the parser.

    Raises:
        JsonInvalidError: with the place of the error.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise JsonInvalidError(f"the body is not JSON: {error}") from error


def read_json_bulk(
    view: GroupView,
    reader: RowReader,
    raw: bytes,
    limit: int,
    asked: Mapping[str, int] = _NOTHING,
    plain: PlainReader | None = None,
) -> BulkRows:
    """A JSON bulk, by columns and data or by rows of objects; `asked` by query stands where the body is silent.

    `plain` reads what needs no parser, `gateway.data.plain_rows.read_plain` where that is imported.

    Raises:
        Problem: what refuses the whole request.
    """
    pieces = cut(raw)
    if pieces is not None and (plain is not None or pieces.is_large):
        bulk = _begun(view, reader, pieces.body, limit, asked)
        found = bulk.read_plain(plain, pieces.rows) if bulk is not None and plain is not None else None
        if found is not None:
            return found
        if bulk is not None and pieces.is_large:
            with suppress(orjson.JSONDecodeError):  # cut inside a text: read in one piece below
                return bulk.read(pieces.portions())
    bulk = _JsonBulk(view, reader, parse_json(raw), limit, asked)
    return bulk.read(iter([bulk.rows]))


def _begun(view: GroupView, reader: RowReader, body: Any, limit: int, asked: Mapping[str, int]) -> "_JsonBulk | None":
    """A bulk of which only what stands around the rows is known; None if that is refused: its rows may be no JSON."""
    try:
        return _JsonBulk(view, reader, body, limit, asked)
    except Problem:
        return None


class _JsonBulk:
    """A JSON bulk being read, portion by portion.

    Attributes:
        rows: of the body it was made of.
    """

    def __init__(self, view: GroupView, reader: RowReader, body: Any, limit: int, asked: Mapping[str, int]) -> None:
        body = object_body(body, _FIELDS)
        self._max_level = level_limit({**asked, **body}, view.schema)
        self._explain = body.get("explain", False)
        if type(self._explain) is not bool:
            raise BodyInvalidError("explain must be true or false", field="explain")
        if ("rows" in body) == ("data" in body or "columns" in body):
            raise BodyInvalidError('a bulk has either "columns" and "data", or "rows"')
        self._schema = view.schema
        self._reader = reader
        self._names = () if "rows" in body else check_columns(view.schema, reader, _list(body, "columns"))
        self._limit = reader.row_limit(limit)
        self._name = "rows" if "rows" in body else "data"
        self.rows = _list(body, self._name)

    def read_plain(self, plain: PlainReader, rows: bytes) -> BulkRows | None:
        """All rows, if they are array rows and plain."""
        read = plain(self._schema, self._reader, self._names, rows, self._limit) if self._names else None
        return None if read is None else self._scored(*read, {})

    def read(self, portions: Iterator[list[Any]]) -> BulkRows:
        """All rows. Raises orjson.JSONDecodeError if a portion is no JSON."""
        errors: dict[int, Problem] = {}
        keys: list[KeyRows] = []
        features: list[Features] = []
        total = 0
        for rows in portions:
            check_rows(total + len(rows), self._limit, self._name)
            fault = _shifted(errors, total)
            columns = self._columns(rows, fault)
            keys.append(read_keys(self._schema, [columns[field] for field in self._schema.fields], fault))
            features.append(self._reader.columns(columns, len(rows), fault))
            total += len(rows)
        check_rows(total, self._limit, self._name)
        return self._scored(joined_keys(keys), joined(features), errors)

    def _scored(self, keys: KeyRows, features: Features, errors: dict[int, Problem]) -> BulkRows:
        return scored_rows(
            self._schema, self._reader, keys, features, errors, max_level=self._max_level, explain=self._explain
        )

    def _columns(self, rows: Sequence[Any], fault: Fault) -> Mapping[str, Sequence[Any]]:
        if self._names:
            return columns_of_arrays(self._names, rows, fault)
        return self._reader.columns_of_objects(rows, fault, self._schema.fields)


def _shifted(errors: dict[int, Problem], by: int) -> Fault:
    """Notes faults of a portion's rows by their place in the whole; the first of a row stands."""
    return lambda row, problem: errors.setdefault(by + row, problem)


def scored_rows(
    schema: KeySchema,
    reader: RowReader,
    keys: KeyRows,
    features: Features,
    errors: dict[int, Problem],
    *,
    max_level: int,
    explain: bool,
) -> BulkRows:
    """Feed the inputs that come from the key, then leave out every row that has an error."""
    total = len(features)
    if reader.feeds:
        values = {field: [key[place] for key in keys.keys] for place, field in enumerate(schema.fields)}
        features = reader.feed(features, values, keys.rows, errors.setdefault)
    places = np.arange(total, dtype=np.intp)
    key_rows = keys.rows
    if errors:
        places = np.delete(places, list(errors))
        features = features.take(places)
        key_rows = key_rows[places]
    return BulkRows(total, keys.keys, key_rows, places, features, errors, max_level, explain)


def object_body(body: Any, allowed: frozenset[str]) -> Mapping[str, Any]:
    """The body as an object of allowed fields.

    Raises:
        BodyInvalidError: if it is anything else.
    """
    if type(body) is not dict:
        raise BodyInvalidError(f"the body must be an object of {sorted(allowed)}, got {type(body).__name__}")
    if not body.keys() <= allowed:
        name = next(name for name in body if name not in allowed)
        raise BodyInvalidError(f"{name!r} is no field of this request; fields are {sorted(allowed)}", field=name)
    return body


def level_limit(body: Mapping[str, Any], schema: KeySchema) -> int:
    """The deepest fallback level the caller allows; the whole chain if it does not say.

    Raises:
        BodyInvalidError: if it is no whole number from 0.
    """
    deepest = len(schema.levels) - 1
    level = body.get("max_fallback_level")
    if level is None:
        return deepest
    if type(level) is not int or level < 0:
        raise BodyInvalidError("max_fallback_level is a whole number from 0", field="max_fallback_level")
    return min(level, deepest)


def check_rows(count: int, limit: int, field: str) -> None:
    """Refuse empty and too large batches.

    Raises:
        RowsEmptyError, TooManyRowsError.
    """
    if count == 0:
        raise RowsEmptyError(f"{field} is empty; send at least one row", field=field)
    if count > limit:
        raise TooManyRowsError(f"{count:,} rows; one request takes {limit:,} here", field=field)


def check_columns(schema: KeySchema, reader: RowReader, names: Sequence[Any]) -> Sequence[str]:
    """Column names of a bulk: all key fields, and inputs only.

    Raises:
        BodyInvalidError, KeyFieldMissingError, FeatureUnknownError.
    """
    if any(type(name) is not str for name in names) or len(set(names)) != len(names):
        raise BodyInvalidError("columns are distinct names", field="columns")
    for field in schema.fields:
        if field not in names:
            raise KeyFieldMissingError(f"the columns lack the key field {field!r}", field=field)
    for name in names:
        if name not in schema.fields and name not in reader.sent_names:
            raise reader.unknown(name)
    return names


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if type(value) is not list:
        raise BodyInvalidError(f"{name} must be a list", field=name)
    return value
