"""Tables as a caller sends them: a Parquet file of models, an Arrow stream of rows."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.house import House
from tests.support.waiting import until

KEY_FIELDS = ("store", "brand")
STREAM = {"content-type": "application/vnd.apache.arrow.stream"}


def arrow_stream(table: pa.Table, **options: Any) -> bytes:
    """An IPC stream of a table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def read_stream(data: bytes) -> pa.Table:
    """The table of an IPC stream."""
    return pa.ipc.open_stream(data).read_all()


def parquet(rows: Sequence[Mapping[str, Any]], fields: Sequence[str] = KEY_FIELDS) -> bytes:
    """A Parquet file of models: each row its key fields (absent is null), `model`, and `runtime` (lightgbm if absent)."""
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in fields}
    columns["model"] = pa.array([row.get("model") for row in rows], pa.binary())
    columns["runtime"] = pa.array([row.get("runtime", "lightgbm") for row in rows], pa.string())
    if any(row.get("classes") for row in rows):
        columns["classes"] = pa.array([row.get("classes") for row in rows], pa.list_(pa.string()))
    if any("tags" in row for row in rows):
        tags = [None if "tags" not in row else list(row["tags"].items()) for row in rows]
        columns["tags"] = pa.array(tags, pa.map_(pa.string(), pa.string()))
    return parquet_file(pa.table(columns))


def parquet_file(table: pa.Table) -> bytes:
    """A Parquet file of a table."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def imported(house: House, group: str, data: bytes, **params: Any) -> dict[str, Any]:
    """Import a Parquet file and wait for its end: the import's record."""
    answer = house.client.post(f"{group}/models/bulk", params=params, content=data)
    assert answer.status_code == 202, answer.text
    where = answer.headers["location"]
    return until(lambda: found if (found := house.client.get(where).json())["state"] in ("done", "failed") else None)


def made_live(house: House, group: str, rows: Sequence[Mapping[str, Any]], fields: Sequence[str] = KEY_FIELDS) -> None:
    """Import models into a group that has none live, and wait until they answer."""
    record = imported(house, group, parquet(rows, fields))
    assert (record["state"], record["registered"]) == ("done", len(rows)), record
    house.until_live(group)
