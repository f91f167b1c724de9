"""Tables in and out: pandas frames and Arrow tables as an Arrow IPC stream, or as JSON columns without pyarrow.

A frame of mixed columns crosses the wire fastest, and exactly, as Arrow; a caller with pandas alone still gets
through as JSON. Neither library is needed to use the rest of the client, so both are imported at first use.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Final

import orjson

from manymodels.errors import LibraryMissingError
from manymodels.foreign import is_batch, is_frame

ARROW: Final = "application/vnd.apache.arrow.stream"


def has_arrow() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def arrow_stream(data: Any) -> bytes:
    """An Arrow IPC stream of a frame (without its index) or a table; categories become their plain values.

    Raises:
        LibraryMissingError: without pyarrow.
    """
    pa = _pyarrow()
    if is_frame(data):
        table = pa.Table.from_pandas(data, preserve_index=False)
    else:
        table = pa.Table.from_batches([data]) if is_batch(data) else data
    table = _plain(pa, table).replace_schema_metadata(None)
    sink = BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def read_stream(data: bytes) -> Any:
    """The `pyarrow.Table` of an Arrow IPC stream.

    Raises:
        LibraryMissingError: without pyarrow.
    """
    return _pyarrow().ipc.open_stream(data).read_all()


def values(table: Any, name: str) -> list[Any]:
    """One column as a list of Python values, null as None."""
    column = table.column(name)
    if column.null_count == 0 and str(column.type) in ("double", "int64"):
        return list(column.to_numpy().tolist())
    return list(column.to_pylist())


def releases(table: Any) -> Mapping[str, int]:
    """Deployment -> release of a bulk answer, from its schema's metadata."""
    metadata = table.schema.metadata or {}
    return dict(orjson.loads(metadata.get(b"releases", b"{}")))


def json_columns(frame: Any) -> dict[str, Any]:
    """A pandas frame as `{"columns": [...], "data": [row, ...]}`; missing values become None."""
    columns = [_cells(frame.iloc[:, position]) for position in range(frame.shape[1])]
    return {
        "columns": [str(name) for name in frame.columns],
        "data": [list(row) for row in zip(*columns, strict=True)],
    }


def table_columns(table: Any) -> dict[str, Any]:
    """A pyarrow table or batch as `{"columns": [...], "data": [row, ...]}`."""
    columns = [[_cell(value) for value in table.column(i).to_pylist()] for i in range(table.num_columns)]
    return {"columns": list(table.schema.names), "data": [list(row) for row in zip(*columns, strict=True)]}


def _cells(series: Any) -> list[Any]:
    missing = series.isna().tolist()
    return [None if gone else _cell(value) for value, gone in zip(series.tolist(), missing, strict=True)]


def _cell(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _plain(pa: Any, table: Any) -> Any:
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            decoded = table.column(position).cast(field.type.value_type)
            table = table.set_column(position, field.name, decoded)
    return table


def _pyarrow() -> Any:
    try:
        import pyarrow.ipc  # noqa: PLC0415 - an optional library, imported when first needed
    except ImportError as error:
        raise LibraryMissingError("Arrow tables need pyarrow: pip install pyarrow") from error
    return pyarrow
