"""Arrow IPC streams in and out: the bulk format for tables that are already columns.

Columns are judged by their Arrow type before conversion, with the same strictness as JSON cells: integers may stand
for floats, nothing stands for text. The stream is read batch by batch and fully validated before its buffers are
trusted. Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from discovery.snapshot import GroupView
from gateway.data.answers import AnswerReader, spread
from gateway.data.arrow_sizes import unpacked_bytes
from gateway.data.bulk import BulkAnswer
from gateway.data.bulk_rows import BulkRows, check_columns, check_rows, scored_rows
from gateway.data.cells import ABSENT, EXACT, Fault, number, tell_rows, text, text_column
from gateway.data.keycolumns import KeyRows, read_keys
from gateway.data.rows import RowReader
from gateway.errors import (
    ArrowInvalidError,
    BodyTooLargeError,
    FeatureNullError,
    FeatureTypeError,
    code_of,
)
from registry.errors import KeyTypeError, Problem
from registry.keys import KeySchema
from registry.signature import FLOAT32_MAX, InputSpec, OutputSpec, Signature
from workers.features import Features, Matrix

_EXPANSION: Final = 8  # unpacked bytes allowed for each byte of a compressed body
_SMALL: Final = 1 << 20  # and how many a body of any size may have


def read_arrow_bulk(view: GroupView, reader: RowReader, raw: bytes, *, max_level: int, limit: int) -> BulkRows:
    """An Arrow bulk.

    Raises:
        Problem: what refuses the whole request.
    """
    limit = reader.row_limit(limit)
    table = _read_table(raw, limit)
    check_columns(view.schema, reader, table.column_names)
    check_rows(table.num_rows, limit, "rows")
    errors: dict[int, Problem] = {}
    keys = _keys(view.schema, table, errors.setdefault)
    features = _features(view.signature, table, errors.setdefault)
    return scored_rows(view.schema, reader, keys, features, errors, max_level=max_level, explain=False)


def arrow_answer(answer: BulkAnswer, reader: AnswerReader) -> bytes:
    """The answer stream: a column an output, `fallback_level` (int8), `error_code`, `error_detail` (null if none)."""
    rows = answer.rows
    unanswered = np.zeros(rows.total, dtype=bool)
    unanswered[list(rows.errors)] = True
    columns: dict[str, pa.Array] = {}
    for index, spec in enumerate(reader.outputs):
        columns[spec.name] = _output_column(answer, reader, index, spec, unanswered)
    columns["fallback_level"] = _level_column(answer, unanswered)
    columns["error_code"] = _error_column(rows, code_of)
    columns["error_detail"] = _error_column(rows, lambda problem: problem.detail)
    deployment = answer.deployment
    metadata = {"releases": f'{{"{deployment.name}":{deployment.release.number}}}'}
    table = pa.table(columns).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return] # pyarrow has no types


def _output_column(
    answer: BulkAnswer, reader: AnswerReader, index: int, spec: OutputSpec, unanswered: NDArray[np.bool_]
) -> pa.Array:
    rows, scores = answer.rows, answer.scored.scores
    if spec.kind == "value" and spec.columns == 1:
        values = np.full(rows.total, np.nan)
        values[rows.places] = scores[:, reader.start(index)]
        return pa.array(values, mask=unanswered)
    listed = spread(reader.column(scores, index), rows.places, rows.total)
    for row in rows.errors:
        listed[row] = None
    return pa.array(listed, type=_output_type(spec))


def _level_column(answer: BulkAnswer, unanswered: NDArray[np.bool_]) -> pa.Array:
    rows = answer.rows
    found = np.full(rows.total, -1, dtype=np.int8)
    found[rows.places] = answer.levels
    return pa.array(found, mask=unanswered | (found < 0))


def _error_column(rows: BulkRows, of: Callable[[Problem], str]) -> pa.Array:
    if not rows.errors:
        return pa.nulls(rows.total, pa.string())
    values: list[str | None] = [None] * rows.total
    for row, problem in rows.errors.items():
        values[row] = of(problem)
    return pa.array(values, type=pa.string())


def _read_table(raw: bytes, limit: int) -> pa.Table:
    batches = []
    rows = cells = viewed = 0
    size = len(raw) * _EXPANSION + _SMALL
    try:
        _check_size(unpacked_bytes(raw), size)
        with pa.ipc.open_stream(raw) as stream:
            for batch in stream:
                batch.validate(full=True)
                rows += batch.num_rows
                check_rows(max(rows, 1), limit, "rows")
                cells += batch.num_rows * batch.num_columns  # a byte each: a column of type null is sent as none
                viewed += sum(map(_viewed_bytes, batch.columns))
                _check_size(max(cells, viewed), size)
                batches.append(batch)
            table = pa.Table.from_batches(batches, stream.schema)
        return table.cast(pa.schema([_widened(field) for field in table.schema]))
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        raise ArrowInvalidError(f"the body is not an Arrow IPC stream: {error}"[:400]) from error


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise BodyTooLargeError(f"the stream unpacks to over {_EXPANSION} times its size; send it as it is")


def _viewed_bytes(column: pa.Array) -> int:
    """Bytes of text in a column of views (as Polars writes), of which many may look at the same bytes."""
    if not pa.types.is_string_view(column.type) or not len(column):
        return 0
    views = np.frombuffer(column.buffers()[1], dtype=np.int32).reshape(-1, 4)[column.offset :][: len(column)]
    return int(views[column.is_valid().to_numpy(zero_copy_only=False), 0].sum(dtype=np.int64))


def _widened(field: pa.Field) -> pa.Field:
    """Text in place of views, and indices with room for the dictionaries of all batches in one."""
    kind = field.type
    if pa.types.is_string_view(kind):
        return field.with_type(pa.large_string())
    if pa.types.is_dictionary(kind):
        return field.with_type(pa.dictionary(pa.int32(), kind.value_type, kind.ordered))
    return field


def _keys(schema: KeySchema, table: pa.Table, fault: Fault) -> KeyRows:
    encoded = [_encode_key(field, table.column(field)) for field in schema.fields]
    sizes = [len(values) for _, values in encoded]
    combined = np.zeros(table.num_rows, dtype=np.int64)
    for (codes, _), size in zip(encoded, sizes, strict=True):
        combined = _compact(combined)[1] * size + codes
    first, inverse = _compact(combined)
    columns = [[values[codes[row]] for row in first.tolist()] for codes, values in encoded]
    faults: dict[int, Problem] = {}
    distinct = read_keys(schema, columns, faults.setdefault)
    tell_rows(faults, inverse, fault)
    return KeyRows(distinct.keys, distinct.rows[inverse])


def _compact(combined: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """First row of each distinct value, and each row's position among the distinct values; by hash, without the GIL."""
    found = pc.dictionary_encode(pa.array(combined))
    inverse: NDArray[np.int64] = found.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    first = np.empty(len(found.dictionary), dtype=np.intp)
    first[inverse[::-1]] = np.arange(len(combined) - 1, -1, -1)  # of equal places the last written stands
    return first, inverse


def _encode_key(field: str, column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[Any]]:
    """Codes of a key column and the values they stand for; null is a value of its own."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise KeyTypeError(f"the key column {field!r} must be text or integers, got {column.type}", field=field)
    if pa.types.is_null(kind):
        return np.zeros(len(column), dtype=np.int64), [None]
    if pa.types.is_dictionary(column.type):
        return _codes(column)
    found = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
    codes = found.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, found.dictionary.to_pylist()


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[Any]]:
    """Codes and values of a dictionary column as it was sent: written out, its values could fill the memory."""
    flat = column.unify_dictionaries().combine_chunks()
    values = flat.dictionary.to_pylist()
    codes = flat.indices.cast(pa.int64()).fill_null(len(values)).to_numpy(zero_copy_only=False)
    return codes, [*values, None]


def _features(signature: Signature, table: pa.Table, fault: Fault) -> Features:
    rows = table.num_rows
    matrix: Matrix = np.full((rows, len(signature.inputs)), np.nan)
    texts: dict[int, list[str | None]] = {}
    exact: dict[int, NDArray[np.int64]] = {}
    for position, spec in enumerate(signature.inputs):
        if spec.from_key is not None:
            continue
        column = table.column(spec.name) if spec.name in table.column_names else None
        if spec.dtype == "string":
            texts[position] = _texts(spec, column, rows, fault)
        else:
            big = _numbers(matrix, position, spec, column, fault)
            if big is not None:
                exact[position] = big
    return Features(matrix, texts, exact)


def _texts(spec: InputSpec, column: pa.ChunkedArray | None, rows: int, fault: Fault) -> list[str | None]:
    if column is None:
        return [text(spec, ABSENT)] * rows
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (_is_text(kind) or pa.types.is_null(kind)):
        raise _wrong_type(spec, column.type, "text")
    if pa.types.is_null(kind):  # a dictionary of nulls may say that it has more than memory holds
        return text_column(spec, [None] * rows, fault)
    if pa.types.is_dictionary(column.type):
        codes, values = _codes(column)
        return text_column(spec, [values[code] for code in codes.tolist()], fault)
    return text_column(spec, column.to_pylist(), fault)


def _numbers(
    matrix: Matrix, position: int, spec: InputSpec, column: pa.ChunkedArray | None, fault: Fault
) -> NDArray[np.int64] | None:
    if column is None:
        matrix[:, position] = number(spec, ABSENT)
        return None
    flat = _as_numbers(spec, column)
    missing = flat.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    values = flat.fill_null(0).to_numpy(zero_copy_only=False)
    matrix[:, position] = np.where(missing, np.nan, values)
    if not spec.nullable:
        _tell(missing, FeatureNullError(f"{spec.name!r} is null, and it is not nullable", field=spec.name), fault)
    _check_range(matrix[:, position], spec, fault)
    if spec.dtype == "int64" and np.abs(matrix[~missing, position]).max(initial=0.0) > EXACT:
        return values.astype(np.int64)  # type: ignore[no-any-return] # pyarrow has no types
    return None


def _check_range(column: NDArray[np.float64], spec: InputSpec, fault: Fault) -> None:
    limit = FLOAT32_MAX if spec.dtype == "float32" else np.finfo(np.float64).max
    beyond = FeatureTypeError(f"{spec.name!r} is infinite or out of range", field=spec.name)
    _tell(np.abs(column) > limit, beyond, fault)
    if spec.dtype == "float32":
        with np.errstate(over="ignore"):  # those rows are refused already
            column[:] = column.astype(np.float32)


def _tell(bad: NDArray[np.bool_], problem: Problem, fault: Fault) -> None:
    for row in np.flatnonzero(bad).tolist():
        fault(row, problem)


def _as_numbers(spec: InputSpec, column: pa.ChunkedArray) -> pa.Array:
    kind = column.type
    flat = column.combine_chunks()
    if pa.types.is_null(kind):
        return flat.cast(pa.float64())
    match spec.dtype:
        case "float64" | "float32" if pa.types.is_floating(kind) or pa.types.is_integer(kind):
            return flat.cast(pa.float64(), safe=False)
        case "int64" if pa.types.is_integer(kind):
            return _cast(spec, flat, pa.int64())
        case "bool" if pa.types.is_boolean(kind):
            return flat.cast(pa.int8())
        case "timestamp" if pa.types.is_timestamp(kind):
            return flat.cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.int64())
    raise _wrong_type(spec, kind, spec.dtype)


def _cast(spec: InputSpec, flat: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return flat.cast(kind)
    except pa.ArrowInvalid as error:
        raise FeatureTypeError(f"{spec.name!r} holds an integer past 64 bits", field=spec.name) from error


def _wrong_type(spec: InputSpec, kind: pa.DataType, expected: str) -> FeatureTypeError:
    return FeatureTypeError(f"the column {spec.name!r} must be {expected}, got {kind}", field=spec.name)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _output_type(spec: OutputSpec) -> pa.DataType:
    if spec.kind == "label":
        return {str: pa.string(), int: pa.int64(), bool: pa.bool_()}[type(spec.classes[0])]
    if spec.columns == 1:
        return pa.float64()
    return pa.list_(pa.float64(), spec.columns)
