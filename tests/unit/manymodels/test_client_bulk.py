"""What the client makes of bulks: frames, tables, columns and rows."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from manymodels import Client
from manymodels.errors import (
    NotFoundError,
)
from tests.support.scripted_server import Reply, problem, serving

USE = {"key": "store=2", "version": 1, "release": 3, "deployment": "blue", "fallback_level": 0, "trained_through": None}
BULK = {
    "predictions": [9.1, None],
    "fallback_level": [0, None],
    "releases": {"blue": 3},
    "errors": [{"row": 1, "code": "partition_not_found", "detail": "d"}],
}


@pytest.mark.parametrize(
    ("data", "body"),
    [
        ({"columns": ["store"], "data": [["2"], ["3"]]}, {"columns": ["store"], "data": [["2"], ["3"]]}),
        ([{"store": 2}, {"store": 3}], {"rows": [{"store": 2}, {"store": 3}]}),
    ],
)
def test_bulk_columns_and_rows_go_as_json(data, body):
    with serving(lambda asked: Reply(body=BULK)) as server, Client(server.url) as client:
        result = client.predict_bulk("g", data)
    assert server.asked[0].json == body
    assert result.predictions == [9.1, None]
    assert (result.errors[0].row, result.errors[0].code, result.releases) == (1, "partition_not_found", {"blue": 3})


def arrow_reply() -> Reply:
    """A bulk answer in Arrow form: one row answered, one not."""
    table = pa.table(
        {
            "sales": [9.1, None],
            "fallback_level": pa.array([0, None], pa.int8()),
            "error_code": [None, "partition_not_found"],
            "error_detail": [None, "d"],
        }
    ).replace_schema_metadata({"releases": '{"blue":3}'})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Reply(body=sink.getvalue().to_pybytes())


@pytest.mark.parametrize("make", [pd.DataFrame, pa.table])
def test_bulk_frames_and_tables_go_and_come_as_arrow(make):
    with serving(lambda asked: arrow_reply()) as server, Client(server.url) as client:
        result = client.predict_bulk("g", make({"store": ["2", "3"], "price": [1.0, 2.0]}), max_fallback_level=1)
    asked = server.asked[0]
    assert asked.headers["content-type"] == asked.headers["accept"] == "application/vnd.apache.arrow.stream"
    assert asked.path == "/v1/groups/g/predict/bulk?max_fallback_level=1"
    assert pa.ipc.open_stream(asked.body).read_all().column_names == ["store", "price"]
    assert (result.predictions, result.fallback_level, result.releases) == ([9.1, None], [0, None], {"blue": 3})
    assert [(error.row, error.code) for error in result.errors] == [(1, "partition_not_found")]
    assert result.table.num_rows == 2


def test_several_arrow_outputs_are_objects_by_name():
    table = pa.table({"mean": [1.0], "p90": [2.0], "fallback_level": [0], "error_code": pa.nulls(1, pa.string()), "error_detail": pa.nulls(1, pa.string())})  # fmt: skip
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    reply = Reply(body=sink.getvalue().to_pybytes())
    with serving(lambda asked: reply) as server, Client(server.url) as client:
        assert client.predict_bulk("g", pa.table({"store": ["2"]})).predictions == [{"mean": 1.0, "p90": 2.0}]


def test_an_explained_frame_goes_as_json_columns():
    body = {**BULK, "models": [USE], "model_index": [0, None]}
    with serving(lambda asked: Reply(body=body)) as server, Client(server.url) as client:
        result = client.predict_bulk("g", pd.DataFrame({"store": ["2", "3"], "price": [1.0, np.nan]}), explain=True)
    assert server.asked[0].json == {"columns": ["store", "price"], "data": [["2", 1.0], ["3", None]], "explain": True}
    assert result.models is not None
    assert (result.models[0].key, result.model_index) == ("store=2", [0, None])


def test_a_refused_arrow_bulk_is_an_error_with_its_code():
    with (
        serving(lambda asked: problem(404, "group_not_found", "no group")) as server,
        Client(server.url) as client,
        pytest.raises(NotFoundError, match="group_not_found"),
    ):
        client.predict_bulk("g", pa.table({"store": ["2"]}))
