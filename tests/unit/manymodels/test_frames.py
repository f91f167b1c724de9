"""Frames and tables as Arrow streams and as JSON columns."""

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from manymodels.foreign import is_batch, is_frame, is_table
from manymodels.frames import arrow_stream, json_columns, read_stream, releases, table_columns, values

FRAME = pd.DataFrame(
    {
        "store": ["2", "a/b"],
        "price": [3.87, np.nan],
        "feat": np.array([0, 1], dtype=np.int64),
        "kind": pd.Categorical(["x", None]),
        "open": [True, False],
        "at": pd.to_datetime(["2026-11-19", None]),
    }
)


def test_frames_tables_and_batches_are_told_apart():
    table = pa.table({"a": [1]})
    assert is_frame(FRAME)
    assert not is_frame(table)
    assert is_table(table)
    assert is_table(table.to_batches()[0])
    assert is_batch(table.to_batches()[0])
    assert not is_table({"columns": [], "data": []})


def test_a_frame_goes_as_arrow_and_comes_back_without_its_index():
    table = read_stream(arrow_stream(FRAME.set_index(pd.Index([7, 9]))))
    assert table.column_names == list(FRAME.columns)
    assert table.schema.metadata is None
    assert table.column("store").to_pylist() == ["2", "a/b"]
    assert table.column("feat").to_pylist() == [0, 1]


def test_categories_become_their_plain_values():
    table = read_stream(arrow_stream(FRAME))
    assert not pa.types.is_dictionary(table.schema.field("kind").type)
    assert table.column("kind").to_pylist() == ["x", None]


def test_integer_categories_become_integers():
    table = read_stream(arrow_stream(pd.DataFrame({"a": pd.Categorical([3, 1, 3])})))
    assert table.column("a").to_pylist() == [3, 1, 3]


def test_a_table_and_a_batch_go_as_they_are():
    table = pa.table({"a": [1.5, None], "b": ["x", "y"]})
    assert read_stream(arrow_stream(table)).equals(table)
    assert read_stream(arrow_stream(table.to_batches()[0])).equals(table)


def test_a_frame_as_json_columns_has_none_for_whatever_is_missing():
    body = orjson.loads(orjson.dumps(json_columns(FRAME)))
    assert body["columns"] == list(FRAME.columns)
    assert body["data"] == [["2", 3.87, 0, "x", True, "2026-11-19T00:00:00"], ["a/b", None, 1, None, False, None]]


def test_a_table_as_json_columns_keeps_names_and_rows():
    table = pa.table({"a": [1.5, None], "b": ["x", "y"]})
    assert table_columns(table) == {"columns": ["a", "b"], "data": [[1.5, "x"], [None, "y"]]}
    assert table_columns(table.to_batches()[0]) == table_columns(table)


def test_numbers_come_out_of_a_table_to_the_last_bit():
    numbers = np.random.default_rng(0).normal(size=100).tolist()
    assert values(pa.table({"a": numbers}), "a") == numbers
    assert values(pa.table({"a": [1.0, None]}), "a") == [1.0, None]


def test_releases_are_in_the_metadata_of_a_bulk_answer():
    table = pa.table({"a": [1]}).replace_schema_metadata({"releases": '{"blue":4}'})
    assert releases(table) == {"blue": 4}
    assert releases(pa.table({"a": [1]})) == {}
