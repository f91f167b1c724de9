"""A bulk file is read in bounded batches whatever its shape, and refused in words when it is not one."""

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workers.builder.parquet import read_file
from workers.builder.proof import ReadingPlan
from workers.errors import ParquetInvalidError

FIELDS = ("store", "brand")


def _plan(path, **changes) -> ReadingPlan:
    values = {"path": path, "fields": FIELDS, "start": 0, "batch_rows": 3, "batch_bytes": 1 << 20} | changes
    return ReadingPlan(**values)


def _write(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


def _rows(plan):
    return [row for batch in read_file(plan) for row in pickle.loads(batch.rows)]


def _columns(count=7):
    return {
        "store": [str(i) for i in range(count)],
        "brand": ["a"] * (count - 1) + [None],
        "model": [b"m%d" % i for i in range(count)],
    }


def test_rows_come_in_order_in_batches_of_bounded_count(tmp_path):
    path = _write(tmp_path / "f", _columns(), row_group_size=4)
    batches = list(read_file(_plan(path)))
    assert [(batch.first, batch.count) for batch in batches] == [(0, 3), (3, 3), (6, 1)]
    rows = _rows(_plan(path))
    assert [row.row for row in rows] == list(range(7))
    assert rows[6].key == {"store": "6", "brand": None}
    assert rows[6].model == b"m6"
    assert (rows[0].runtime, rows[0].meta) == (None, {})


@pytest.mark.parametrize("start", range(8))
def test_reading_goes_on_from_any_row(tmp_path, start):
    path = _write(tmp_path / "f", _columns(), row_group_size=3)
    assert [row.row for row in _rows(_plan(path, start=start))] == list(range(start, 7))


def test_batches_are_bounded_in_bytes(tmp_path):
    columns = {"store": ["1"] * 6, "model": [bytes([i]) * 1000 for i in range(6)]}
    path = _write(tmp_path / "f", columns)
    batches = list(read_file(_plan(path, batch_rows=100, batch_bytes=2000)))
    assert [batch.count for batch in batches] == [2, 2, 2]


def test_maps_structs_and_lists_become_what_authors_say_in_json(tmp_path):
    columns = {
        "store": ["1", "2"],
        "model": [b"a", b"b"],
        "runtime": pa.array(["lightgbm", "onnx"]).dictionary_encode(),
        "tags": pa.array([[("region", "nw"), ("none", None)], None], pa.map_(pa.string(), pa.string())),
        "metrics": pa.array([{"rmse": 1.5, "r2": float("nan")}, {"rmse": None, "r2": 1.0}]),
        "classes": [["lo", "hi"], None],
    }
    first, second = _rows(_plan(_write(tmp_path / "f", columns)))
    assert (first.runtime, second.runtime) == ("lightgbm", "onnx")
    assert first.meta == {"tags": {"region": "nw"}, "metrics": {"rmse": 1.5}, "classes": ["lo", "hi"]}
    assert second.meta == {"metrics": {"r2": 1.0}}


def test_large_and_dictionary_columns_and_a_pandas_index_are_read(tmp_path):
    table = pa.table(
        {
            "store": pa.array(["1", "1"]).dictionary_encode(),
            "model": pa.array([b"a", None], pa.large_binary()),
            "__index_level_0__": [5, 6],
        }
    )
    pq.write_table(table, tmp_path / "f")
    rows = _rows(_plan(tmp_path / "f"))
    assert [(row.key, row.model) for row in rows] == [({"store": "1"}, b"a"), ({"store": "1"}, None)]


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"store": ["1"]}, "model"),
        ({"store": ["1"], "model": ["text"]}, "model"),
        ({"store": [1.5], "model": [b"m"]}, "store"),
        ({"store": ["1"], "model": [b"m"], "tag": ["x"]}, "tag"),
        ({"store": ["1"], "model": [b"m"], "tags": ["x"]}, "tags"),
        ({"store": ["1"], "model": [b"m"], "runtime": [1]}, "runtime"),
        ({"store": ["1"], "model": [b"m"], "classes": ["x"]}, "classes"),
    ],
)
def test_a_column_that_is_missing_unknown_or_of_a_wrong_type_is_named(tmp_path, columns, field):
    with pytest.raises(ParquetInvalidError) as refused:
        _rows(_plan(_write(tmp_path / "f", columns)))
    assert refused.value.field == field


def test_a_column_named_twice_is_refused(tmp_path):
    table = pa.table([["1"], ["2"], [b"m"]], names=["store", "store", "model"])
    pq.write_table(table, tmp_path / "f")
    with pytest.raises(ParquetInvalidError, match="twice"):
        _rows(_plan(tmp_path / "f"))


def test_a_file_without_rows_is_refused(tmp_path):
    path = _write(tmp_path / "f", {"store": pa.array([], pa.string()), "model": pa.array([], pa.binary())})
    with pytest.raises(ParquetInvalidError, match="no rows"):
        _rows(_plan(path))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1", b"{}", b"\x80\x05pickle"])
def test_bytes_that_are_no_parquet_are_refused(tmp_path, data):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(ParquetInvalidError):
        _rows(_plan(tmp_path / "f"))


def test_a_truncated_and_a_damaged_file_are_refused(tmp_path):
    path = _write(tmp_path / "f", _columns(500), compression="zstd", write_page_checksum=True)
    whole = path.read_bytes()
    for damaged in (whole[:-200], whole[: len(whole) // 2], whole[:50] + b"\xff" * 200 + whole[250:]):
        path.write_bytes(damaged)
        with pytest.raises(ParquetInvalidError):
            _rows(_plan(path))
