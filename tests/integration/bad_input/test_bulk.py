"""A bad bulk is a problem as a whole, or of one row alone; and nothing has changed."""

import numpy as np
import orjson
import pyarrow as pa

from tests.support.refusals import GOOD, JSON, KEY, Bad, G, asked, table
from tests.support.state import state_of
from tests.support.tables import STREAM, arrow_stream, read_stream

COLUMNS = ["store", "brand", "price", "feat"]
ROW = ["1", "a", 1.0, 0]


def bulk(data, columns=COLUMNS, **more):
    return orjson.dumps({"columns": columns, "data": data, **more})


@table(
    a_missing_key_column=Bad(bulk([["1", 1.0]], ["store", "price"]), 400, "key_field_missing", "brand"),
    an_unknown_column=Bad(bulk([[*ROW, 1]], [*COLUMNS, "prize"]), 400, "feature_unknown", "prize"),
    a_column_twice=Bad(bulk([[*ROW, 1]], [*COLUMNS, "feat"]), 400, "body_invalid", "columns"),
    a_column_that_is_no_name=Bad(bulk([[*ROW, 1]], [*COLUMNS, ["feat"]]), 400, "body_invalid", "columns"),
    no_data=Bad(orjson.dumps({"columns": COLUMNS}), 400, "body_invalid", "data"),
    no_rows=Bad(bulk([]), 400, "rows_empty", "data"),
    too_many_rows=Bad(bulk([ROW] * 17), 400, "too_many_rows", "data"),
    no_row_objects=Bad(orjson.dumps({"rows": []}), 400, "rows_empty", "rows"),
    too_many_row_objects=Bad(orjson.dumps({"rows": [KEY | GOOD] * 17}), 400, "too_many_rows", "rows"),
    rows_and_data=Bad(bulk([ROW], rows=[]), 400, "body_invalid"),
    an_unknown_member=Bad(bulk([ROW], key=KEY), 400, "body_invalid", "key"),
    a_number_for_explain=Bad(bulk([ROW], explain=1), 400, "body_invalid", "explain"),
    a_text_level=Bad(bulk([ROW], max_fallback_level="0"), 400, "body_invalid", "max_fallback_level"),
)
def test_a_bulk_that_is_bad_as_a_whole_is_refused(house, refused, bad):
    refused(house.client.post(f"{G}/predict/bulk", content=bad.sent, headers=JSON), bad)


def arrow(rows=1, **changes):
    columns = {"store": ["1"] * rows, "brand": ["a"] * rows, "price": [1.0] * rows} | changes
    return arrow_stream(pa.table({name: column for name, column in columns.items() if column is not None}))


@table(
    nothing=Bad(b"", 400, "arrow_invalid"),
    nonsense=Bad(b"nonsense", 400, "arrow_invalid"),
    json=Bad(bulk([ROW]), 400, "arrow_invalid"),
    a_file_in_place_of_a_stream=Bad(b"ARROW1\0\0" + arrow(), 400, "arrow_invalid"),
    half_a_stream=Bad(arrow(8)[: len(arrow(8)) // 2], 400, "arrow_invalid"),
    text_as_numbers=Bad(arrow(price=["1.0"]), 400, "feature_type", "price"),
    booleans_as_numbers=Bad(arrow(price=[True]), 400, "feature_type", "price"),
    floats_as_integers=Bad(arrow(feat=[1.0]), 400, "feature_type", "feat"),
    numbers_as_booleans=Bad(arrow(promo=[1]), 400, "feature_type", "promo"),
    numbers_as_text=Bad(arrow(colour=[1]), 400, "feature_type", "colour"),
    integers_as_timestamps=Bad(arrow(week=[1]), 400, "feature_type", "week"),
    float_keys=Bad(arrow(store=[1.0]), 400, "key_type", "store"),
    boolean_keys=Bad(arrow(store=[True]), 400, "key_type", "store"),
    a_missing_key_column=Bad(arrow(brand=None), 400, "key_field_missing", "brand"),
    a_missing_feature=Bad(arrow(price=None), 400, "feature_missing", "price"),
    an_unknown_column=Bad(arrow(prize=[1]), 400, "feature_unknown", "prize"),
    no_rows=Bad(arrow(0, store=pa.array([], pa.string()), brand=pa.array([], pa.string())), 400, "rows_empty", "rows"),
    too_many_rows=Bad(arrow(17), 400, "too_many_rows", "rows"),
    too_many_bytes=Bad(arrow(store=["x" * 65536]), 413, "body_too_large"),
    a_bomb=Bad(arrow_stream(pa.table({"price": np.zeros(1_000_000)}), compression="zstd"), 413, "body_too_large"),
)
def test_a_bad_arrow_stream_is_refused(house, refused, bad):
    refused(house.client.post(f"{G}/predict/bulk", content=bad.sent, headers=STREAM), bad)


def test_query_parameters_are_refused_where_there_are_none(house, refused):
    unknown = house.client.post(f"{G}/predict?max_fallback_level=0", content=asked(), headers=JSON)
    refused(unknown, Bad(None, 400, "parameter_invalid"))
    for query, field in (
        ("max_fallback_level=1&max_fallback_level=1", "max_fallback_level"),
        ("max_fallback_level=-1", "max_fallback_level"),
        ("max_fallback_level=", "max_fallback_level"),
        ("explain=1", "explain"),
    ):
        for content, headers in ((bulk([ROW]), JSON), (arrow(), STREAM)):
            answer = house.client.post(f"{G}/predict/bulk?{query}", content=content, headers=headers)
            refused(answer, Bad(None, 400, "parameter_invalid", field))


BAD_ROWS = [
    (KEY | {"store": 1.5} | GOOD, "key_type", "store"),
    (KEY | {"store": True} | GOOD, "key_type", "store"),
    (KEY | {"store": None} | GOOD, "key_type", "store"),
    (KEY | {"brand": ""} | GOOD, "key_type", "brand"),
    (KEY | {"brand": "x" * 513} | GOOD, "key_too_long", "brand"),
    (KEY | {"price": "1.0"}, "feature_type", "price"),
    (KEY | {"price": True}, "feature_type", "price"),
    (KEY | {"price": None}, "feature_null", "price"),
    (KEY | GOOD | {"feat": 1.5}, "feature_type", "feat"),
    (KEY | GOOD | {"colour": "green"}, "feature_type", "colour"),
    (KEY | GOOD | {"cost": -1e39}, "feature_type", "cost"),
    (KEY | GOOD | {"store": "9"}, "partition_not_found", None),
]
FULL = {"feat": 0, "colour": "red", "cost": 0}


def interleaved():
    """Every bad row, a good one before and behind them."""
    return [KEY | GOOD, *(row for row, _, _ in BAD_ROWS), KEY | GOOD]


def test_a_bad_row_of_a_json_bulk_is_an_error_of_that_row_alone(house):
    before = state_of(house.home)
    rows = [FULL | row for row in interleaved()]
    columns = list(rows[0])
    for body in ({"rows": rows}, {"columns": columns, "data": [[row[name] for name in columns] for row in rows]}):
        answer = house.client.post(f"{G}/predict/bulk", json=body)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert [(error["row"], error["code"], error.get("field")) for error in told["errors"]] == [
            (row, code, field) for row, (_, code, field) in enumerate(BAD_ROWS, 1)
        ]
        assert told["predictions"] == [1.0, *[None] * len(BAD_ROWS), 1.0]
        assert told["fallback_level"] == [0, *[None] * len(BAD_ROWS), 0]
    assert state_of(house.home) == before


def test_a_bad_row_of_an_arrow_bulk_is_an_error_of_that_row_alone(house):
    nan, infinity = float("nan"), float("inf")
    rows = [
        (KEY | GOOD, None),
        (KEY | {"price": nan}, "feature_null"),
        (KEY | {"price": None}, "feature_null"),
        (KEY | {"price": infinity}, "feature_type"),
        (KEY | GOOD | {"feat": None}, "feature_null"),
        (KEY | GOOD | {"colour": "green"}, "feature_type"),
        (KEY | GOOD | {"cost": 1e39}, "feature_type"),
        (KEY | GOOD | {"store": None}, "key_type"),
        (KEY | GOOD | {"store": ""}, "key_type"),
        (KEY | GOOD | {"brand": "x" * 513}, "key_too_long"),
        (KEY | GOOD | {"store": "9"}, "partition_not_found"),
    ]
    sent = pa.Table.from_pylist([FULL | row for row, _ in rows])
    for stream in (arrow_stream(sent), arrow_stream(sent.set_column(0, "feat", sent["feat"].cast(pa.int32())))):
        answer = house.client.post(f"{G}/predict/bulk", content=stream, headers=STREAM)
        assert answer.status_code == 200, answer.text
        told = read_stream(answer.content).to_pydict()
        assert told["error_code"] == [code for _, code in rows]
        assert told["sales"] == [1.0, *[None] * (len(rows) - 1)]
