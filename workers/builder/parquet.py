"""Reading a bulk file: Parquet, one row a model, the natural output of a grouped training job.

Columns are the group's key fields (null: the row's key is partial), `model` (binary), and optionally `runtime`
(text), `tags`, `metrics`, `provenance` (maps or structs) and `classes` (list). The file is a stranger's, so a child
reads it; rows leave it pickled in batches that the builder hands on to proving children without looking inside.
"""

import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from registry.errors import Problem
from workers.builder.proof import BulkRow, ReadingPlan, RowBatch
from workers.errors import ParquetInvalidError

MODEL: Final = "model"
RUNTIME: Final = "runtime"
CLASSES: Final = "classes"
MAPS: Final = ("tags", "metrics", "provenance")
READ_BYTES: Final = 1 << 20  # of a column chunk at a time

_PANDAS_INDEX: Final = "__index_level_"


def prepare() -> None:
    """Nothing: importing this module imports what reading needs."""
    pa.set_cpu_count(1)


def read_batches(context: bytes, payload: bytes) -> Iterator[bytes]:
    """A child's job: a pickled `ReadingPlan` as context, no payload; pickled `RowBatch` answers, or one `Problem`."""
    del payload
    plan: ReadingPlan = pickle.loads(context)  # noqa: S301 - from our parent process
    try:
        for batch in read_file(plan):
            yield pickle.dumps(batch)
    except Problem as problem:
        yield pickle.dumps(problem)


def read_file(plan: ReadingPlan) -> Iterator[RowBatch]:
    """The rows from `plan.start` on, in order.

    Raises:
        ParquetInvalidError: if the file is no Parquet of the expected columns, is damaged, or has no rows.
    """
    try:
        with pq.ParquetFile(plan.path, buffer_size=READ_BYTES) as file:
            columns = check_columns(file.schema_arrow, plan.fields)
            if file.metadata.num_rows == 0:
                raise ParquetInvalidError("the file has no rows")
            yield from _batches(plan, _rows(file, columns, plan))
    except MemoryError as error:
        raise ParquetInvalidError("a row group of the file needs more memory than reading may take") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ParquetInvalidError(f"the file cannot be read as Parquet: {error}"[:500]) from error


def check_columns(schema: pa.Schema, fields: Sequence[str]) -> list[str]:
    """The columns to read.

    Raises:
        ParquetInvalidError: naming a column that is missing, unknown, named twice or of a wrong type.
    """
    names = [name for name in schema.names if not name.startswith(_PANDAS_INDEX)]
    known = (*fields, MODEL, RUNTIME, CLASSES, *MAPS)
    if MODEL not in names:
        raise ParquetInvalidError(f"the file has no column 'model'; it has {names[:20]}", field=MODEL)
    for name in names:
        if name not in known:
            raise ParquetInvalidError(f"the column {name!r} is unknown; known are {list(known)}", field=name)
        if names.count(name) > 1:
            raise ParquetInvalidError(f"the column {name!r} is named twice", field=name)
        wanted = _wanted_type(name, schema.field(name).type)
        if wanted:
            raise ParquetInvalidError(f"the column {name!r} must be {wanted}", field=name)
    return names


def _wanted_type(name: str, given: pa.DataType) -> str | None:
    """What type a column should have, None if it has it."""
    of = given.value_type if pa.types.is_dictionary(given) else given
    if pa.types.is_null(of):
        return "binary" if name == MODEL else None
    if name == MODEL:
        return None if pa.types.is_binary(of) or pa.types.is_large_binary(of) else "binary"
    if name in MAPS:
        return None if pa.types.is_map(of) or pa.types.is_struct(of) else "a map or a struct"
    if name == CLASSES:
        return None if pa.types.is_list(of) or pa.types.is_large_list(of) else "a list"
    text = pa.types.is_string(of) or pa.types.is_large_string(of)
    if name == RUNTIME:
        return None if text else "text"
    return None if text or pa.types.is_integer(of) else "text"


def _rows(file: pq.ParquetFile, columns: list[str], plan: ReadingPlan) -> Iterator[BulkRow]:
    row = 0
    for group in range(file.metadata.num_row_groups):
        held = file.metadata.row_group(group).num_rows
        if row + held <= plan.start:
            row += held
            continue
        size = _batch_rows(file.metadata.row_group(group), plan)
        for table in file.iter_batches(size, row_groups=[group], columns=columns, use_threads=False):
            if row + table.num_rows > plan.start:
                yield from _table_rows(table, row, plan)
            row += table.num_rows


def _table_rows(table: pa.RecordBatch, first: int, plan: ReadingPlan) -> Iterator[BulkRow]:
    columns = {name: table.column(at) for at, name in enumerate(table.schema.names)}
    plain = {name: column.to_pylist() for name, column in columns.items() if name != MODEL}
    models = columns[MODEL]
    for at in range(max(plan.start - first, 0), table.num_rows):
        cells = {name: values[at] for name, values in plain.items()}
        yield BulkRow(
            row=first + at,
            key={field: cells[field] for field in plan.fields if field in cells},
            runtime=cells.get(RUNTIME),
            model=models[at].as_py(),
            meta=_meta(cells),
        )


def _meta(cells: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {name: _entries(cells[name]) for name in MAPS if cells.get(name)}
    if cells.get(CLASSES):
        body[CLASSES] = cells[CLASSES]
    return body


def _entries(cell: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A map (pairs) or a struct as an object; null and NaN are how tables write that an entry is absent."""
    return {name: value for name, value in dict(cell).items() if not _absent(value)}


def _absent(value: Any) -> bool:
    return value is None or (type(value) is float and math.isnan(value))


def _batch_rows(group: pq.RowGroupMetaData, plan: ReadingPlan) -> int:
    """Rows to decode at once: as many as fit a batch by the mean size that the file declares."""
    mean = max(group.total_byte_size, 1) / max(group.num_rows, 1)
    return max(1, min(plan.batch_rows, int(plan.batch_bytes / mean)))


def _batches(plan: ReadingPlan, rows: Iterator[BulkRow]) -> Iterator[RowBatch]:
    held: list[BulkRow] = []
    size = 0
    for row in rows:
        held.append(row)
        size += len(row.model or b"")
        if len(held) >= plan.batch_rows or size >= plan.batch_bytes:
            yield _packed(held)
            held, size = [], 0
    if held:
        yield _packed(held)


def _packed(rows: list[BulkRow]) -> RowBatch:
    return RowBatch(rows[0].row, len(rows), pickle.dumps(rows, protocol=5))
