"""The body of a bulk request, read into keys, features and per-row errors.

Whatever the format, the outcome is the same `BulkRows`: one bad row is an error of that row and never of the others,
while what concerns all rows (columns, limits) refuses the request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from discovery.snapshot import GroupView
from gateway.data.keycolumns import KeyRows, read_keys
from gateway.data.rows import RowReader, columns_of_arrays
from gateway.errors import BodyInvalidError, JsonInvalidError, RowsEmptyError, TooManyRowsError
from registry.errors import KeyFieldMissingError, Problem
from registry.keys import KeySchema
from workers.features import Features

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
    view: GroupView, reader: RowReader, raw: bytes, limit: int, asked: Mapping[str, int] = _NOTHING
) -> BulkRows:
    """A JSON bulk, by columns and data or by rows of objects; `asked` by query stands where the body is silent.

    Raises:
        Problem: what refuses the whole request.
    """
    body = object_body(parse_json(raw), _FIELDS)
    max_level = level_limit({**asked, **body}, view.schema)
    explain = body.get("explain", False)
    if type(explain) is not bool:
        raise BodyInvalidError("explain must be true or false", field="explain")
    errors: dict[int, Problem] = {}
    columns, total = _columns(view.schema, reader, body, limit, errors)
    keys = read_keys(view.schema, [columns[field] for field in view.schema.fields], errors.setdefault)
    features = reader.columns(columns, total, errors.setdefault)
    return scored_rows(view.schema, reader, keys, features, errors, max_level=max_level, explain=explain)


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
        feed_keys = [dict(zip(schema.fields, key, strict=True)) for key in keys.keys]
        reader.feed(features, feed_keys, keys.rows.tolist(), errors.setdefault)
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


def _columns(
    schema: KeySchema, reader: RowReader, body: Mapping[str, Any], limit: int, errors: dict[int, Problem]
) -> tuple[Mapping[str, Sequence[Any]], int]:
    if ("rows" in body) == ("data" in body or "columns" in body):
        raise BodyInvalidError('a bulk has either "columns" and "data", or "rows"')
    if "rows" in body:
        rows = _list(body, "rows")
        check_rows(len(rows), limit, "rows")
        return reader.columns_of_objects(rows, errors.setdefault, schema.fields), len(rows)
    names = check_columns(schema, reader, _list(body, "columns"))
    data = _list(body, "data")
    check_rows(len(data), limit, "data")
    return columns_of_arrays(names, data, errors.setdefault), len(data)


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
