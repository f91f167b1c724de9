"""Bulk bodies: one bad row is an error of that row alone; what concerns all rows refuses the request."""

from contextlib import suppress

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.data.arrow import read_arrow_bulk
from gateway.data.bulk_rows import read_json_bulk
from gateway.data.portions import PORTION_BYTES, cut
from gateway.data.rows import MOST_CELLS, RowReader
from gateway.data.single import read_call
from gateway.errors import (
    ArrowInvalidError,
    BodyInvalidError,
    FeatureTypeError,
    FeatureUnknownError,
    JsonInvalidError,
    RowsEmptyError,
    TooManyRowsError,
)
from registry.errors import KeyFieldMissingError, KeyTypeError, Problem
from tests.support.views import view

COLUMNS = ["store", "brand", "price", "feat"]


def read_json(body, *, seen=None, limit=100):
    seen = seen or view()
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_json_bulk(seen, RowReader(seen.signature), raw, limit)


def read_arrow(table, *, seen=None, limit=100):
    seen = seen or view()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    raw = sink.getvalue().to_pybytes()
    return read_arrow_bulk(seen, RowReader(seen.signature), raw, max_level=2, limit=limit)


def codes(rows):
    return {row: problem.code for row, problem in rows.errors.items()}


def test_columns_objects_and_arrow_read_the_same():
    data = [["2", "t", 3.5, 1], [2, "t", 1, 0], ["5", "d", 2.5, 0]]
    objects = [dict(zip(COLUMNS, row, strict=True)) for row in data]
    by_columns = read_json({"columns": COLUMNS, "data": data})
    by_objects = read_json({"rows": objects})
    by_arrow = read_arrow(
        pa.table({"store": ["2", "2", "5"], "brand": ["t", "t", "d"], "price": [3.5, 1.0, 2.5], "feat": [1, 0, 0]})
    )
    for rows in (by_columns, by_objects, by_arrow):
        assert rows.features.matrix.tolist() == [[3.5, 1.0], [1.0, 0.0], [2.5, 0.0]]
        assert [rows.keys[k] for k in rows.key_rows.tolist()] == [("2", "t"), ("2", "t"), ("5", "d")]
        assert not rows.errors


def test_column_order_is_free_and_absent_columns_take_defaults():
    rows = read_json({"columns": ["price", "brand", "store"], "data": [[3.5, "t", "2"]]})
    assert rows.features.matrix.tolist() == [[3.5, 0.0]]
    assert rows.keys == [("2", "t")]


def test_each_bad_row_is_its_own_error_and_the_rest_is_scored():
    data = [
        ["2", "t", 3.5, 0],
        [2.5, "t", 1.0, 0],
        ["2", "", 1.0, 0],
        ["2", None, 1.0, 0],
        [True, "t", 1.0, 0],
        ["2", "t", "1.0", 0],
        ["2", "t", True, 0],
        ["2", "t", None, 0],
        ["2", "t", 1.0],
        "row",
        ["x" * 600, "t", 1.0, 0],
        ["2", "t", 9.5, 1],
    ]
    rows = read_json({"columns": COLUMNS, "data": data})
    assert codes(rows) == {
        1: "key_type",
        2: "key_type",
        3: "key_type",
        4: "key_type",
        5: "feature_type",
        6: "feature_type",
        7: "feature_null",
        8: "row_width",
        9: "body_invalid",
        10: "key_too_long",
    }
    assert rows.places.tolist() == [0, 11]
    assert rows.features.matrix.tolist() == [[3.5, 0.0], [9.5, 1.0]]


def test_bad_object_rows_are_their_own_errors():
    rows = read_json(
        {
            "rows": [
                {"store": "2", "brand": "t", "price": 1.0},
                {"store": "2", "price": 1.0},
                {"store": "2", "brand": "t"},
                {"store": "2", "brand": "t", "price": 1.0, "prize": 1},
                7,
            ]
        }
    )
    assert codes(rows) == {1: "key_field_missing", 2: "feature_missing", 3: "feature_unknown", 4: "body_invalid"}


def test_one_and_true_and_text_one_are_not_confused():
    rows = read_json({"columns": COLUMNS, "data": [[1, "t", 1.0, 0], [True, "t", 1.0, 0], ["1", "t", 1.0, 0]]})
    assert codes(rows) == {1: "key_type"}
    assert [rows.keys[k] for k in rows.key_rows.tolist()] == [("1", "t"), ("1", "t")]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", JsonInvalidError),
        (b"[" * 5000 + b"]" * 5000, JsonInvalidError),
        (b"[]", BodyInvalidError),
        ({}, BodyInvalidError),
        ({"columns": COLUMNS, "data": [], "rows": []}, BodyInvalidError),
        ({"columns": COLUMNS, "data": []}, RowsEmptyError),
        ({"rows": []}, RowsEmptyError),
        ({"rows": {}}, BodyInvalidError),
        ({"columns": "x", "data": [[1]]}, BodyInvalidError),
        ({"columns": ["store", "price"], "data": [["2", 1.0]]}, KeyFieldMissingError),
        ({"columns": [*COLUMNS, "prize"], "data": [["2", "t", 1.0, 0, 0]]}, FeatureUnknownError),
        ({"columns": [*COLUMNS, "price"], "data": [["2", "t", 1.0, 0, 0]]}, BodyInvalidError),
        ({"columns": COLUMNS, "data": [["2", "t", 1.0, 0]] * 101}, TooManyRowsError),
        ({"columns": COLUMNS, "data": [["2", "t", 1.0, 0]], "max_fallback_level": -1}, BodyInvalidError),
        ({"columns": COLUMNS, "data": [["2", "t", 1.0, 0]], "max_fallback_level": True}, BodyInvalidError),
        ({"columns": COLUMNS, "data": [["2", "t", 1.0, 0]], "explain": 1}, BodyInvalidError),
        ({"columns": COLUMNS, "data": [["2", "t", 1.0, 0]], "surprise": 1}, BodyInvalidError),
    ],
)
def test_what_concerns_all_rows_refuses_the_request(body, error):
    with pytest.raises(error):
        read_json(body)


def test_key_fields_feed_inputs_row_by_row():
    seen = view(
        {
            "inputs": [{"name": "s", "dtype": "int64", "from_key": "store"}, {"name": "price"}],
            "outputs": [{"name": "y"}],
        }
    )
    rows = read_json(
        {"columns": ["store", "brand", "price"], "data": [["2", "t", 1.0], ["x", "t", 1.0], ["5", "t", 2.0]]}, seen=seen
    )
    assert codes(rows) == {1: "feature_type"}
    assert rows.features.matrix.tolist() == [[2.0, 1.0], [5.0, 2.0]]


def test_arrow_rows_with_nulls_are_their_own_errors():
    table = pa.table(
        {
            "store": pa.array(["2", None, "2", ""]),
            "brand": pa.array(["t", "t", "t", "t"]).dictionary_encode(),
            "price": pa.array([1.0, 1.0, None, 2.0]),
        }
    )
    assert codes(read_arrow(table)) == {1: "key_type", 2: "feature_null", 3: "key_type"}


def test_rows_with_the_same_fault_share_one_problem():
    text = view({"inputs": [{"name": "price"}, {"name": "s", "dtype": "string"}], "outputs": [{"name": "y"}]})
    table = pa.table(
        {
            "store": pa.array(["", "", "2", "2", "2", "2"]),
            "brand": ["t"] * 6,
            "price": pa.array([1.0, 1.0, None, None, 1.0, 1.0]),
            "s": pa.array(["a", "a", "a", "a", None, None]),
        }
    )
    rows = read_arrow(table, seen=text)
    assert codes(rows) == {0: "key_type", 1: "key_type"} | dict.fromkeys(range(2, 6), "feature_null")
    assert len(set(map(id, rows.errors.values()))) == 3


def test_arrow_nan_is_missing_and_infinity_is_refused():
    table = pa.table({"store": ["2"] * 3, "brand": ["t"] * 3, "price": [float("nan"), float("inf"), 1.0]})
    assert codes(read_arrow(table)) == {0: "feature_null", 1: "feature_type"}


@pytest.mark.parametrize(
    ("column", "values", "error"),
    [
        ("price", ["1.0"], FeatureTypeError),
        ("price", [True], FeatureTypeError),
        ("feat", [1.0], FeatureTypeError),
        ("store", [1.5], KeyTypeError),
        ("store", [True], KeyTypeError),
        ("prize", [1], FeatureUnknownError),
    ],
)
def test_arrow_columns_of_a_wrong_type_refuse_the_request(column, values, error):
    columns = {"store": ["2"], "brand": ["t"], "price": [1.0]} | {column: values}
    with pytest.raises(error):
        read_arrow(pa.table(columns))


def test_arrow_integer_keys_are_decimal_text():
    rows = read_arrow(pa.table({"store": pa.array([2, -3], pa.int32()), "brand": ["t", "t"], "price": [1, 2]}))
    assert [rows.keys[k] for k in rows.key_rows.tolist()] == [("2", "t"), ("-3", "t")]


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"ARROW1\0\0", b"\xff" * 64])
def test_broken_arrow_is_refused(raw):
    seen = view()
    with pytest.raises(ArrowInvalidError):
        read_arrow_bulk(seen, RowReader(seen.signature), raw, max_level=0, limit=10)


def test_truncated_and_flipped_arrow_never_crashes():
    seen = view()
    table = pa.table({"store": ["2"] * 50, "brand": ["t"] * 50, "price": [1.0] * 50})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    raw = bytearray(sink.getvalue().to_pybytes())
    reader = RowReader(seen.signature)
    for end in range(0, len(raw), 37):
        for damaged in (bytes(raw[:end]), bytes(raw[:end] + bytes([raw[end] ^ 0x55]) + raw[end + 1 :])):
            with suppress(Problem):
                read_arrow_bulk(seen, reader, damaged, max_level=0, limit=1000)


@pytest.mark.parametrize(
    ("inputs", "outputs", "widest"),
    [
        ([{"name": f"x{i}", "default": 0} for i in range(4096)], [{"name": "y"}], 4096),
        ([{"name": "x0", "default": 0}], [{"name": f"y{i}", "width": 10_000} for i in range(64)], 640_000),
    ],
)
def test_a_call_has_fewer_rows_where_a_signature_is_very_wide(inputs, outputs, widest):
    wide = view({"inputs": inputs, "outputs": outputs})
    most = RowReader(wide.signature).row_limit(100_000)
    assert most == MOST_CELLS // widest < 100_000
    too_many = {"store": ["2"] * (most + 1), "brand": ["t"] * (most + 1), "x0": [1.0] * (most + 1)}
    with pytest.raises(TooManyRowsError):
        read_json({"columns": list(too_many), "data": [["2", "t", 1.0]] * (most + 1)}, seen=wide, limit=100_000)
    with pytest.raises(TooManyRowsError):
        read_arrow(pa.table(too_many), seen=wide, limit=100_000)
    instances = orjson.dumps({"key": {"store": "2", "brand": "t"}, "instances": [{}] * (most + 1)})
    with pytest.raises(TooManyRowsError):
        read_call(wide, RowReader(wide.signature), instances, 100_000)


def large(rows, **body):
    """A body too large to be read at once, of these rows over and over."""
    data = rows * (3 * PORTION_BYTES // len(orjson.dumps(rows)) + 1)
    return {"columns": COLUMNS, "data": data, **body}


def assert_same(one, other):
    assert one.total == other.total
    assert [one.keys[k] for k in one.key_rows.tolist()] == [other.keys[k] for k in other.key_rows.tolist()]
    assert one.places.tolist() == other.places.tolist()
    assert np.array_equal(one.features.matrix, other.features.matrix, equal_nan=True)
    assert {row: (p.code, p.detail, p.field) for row, p in one.errors.items()} == {
        row: (p.code, p.detail, p.field) for row, p in other.errors.items()
    }
    assert (one.max_level, one.explain) == (other.max_level, other.explain)


def whole(monkeypatch, body):
    with monkeypatch.context() as patch:
        patch.setattr("gateway.data.bulk_rows.cut", lambda raw: None)
        return read_json(body, limit=1_000_000)


ROWS = [["2", "t", 3.5, 0], [5, "d", 1, 1], ["2", "t", "1.0", 0], ["5", None, 1.0, 1], "row", ["7", "\u20ac", 2.5, 1]]


@pytest.mark.parametrize("indent", [0, orjson.OPT_INDENT_2])
@pytest.mark.parametrize("last", ["columns", "data"])
def test_a_large_bulk_is_read_in_portions_and_says_what_it_would_in_one(monkeypatch, last, indent):
    body = large(ROWS, explain=True, max_fallback_level=1)
    body[last] = body.pop(last)
    raw = orjson.dumps(body, option=indent)
    assert len(list(cut(raw).portions())) > 2
    assert_same(read_json(raw, limit=1_000_000), whole(monkeypatch, raw))


def test_a_large_bulk_of_objects_is_read_in_portions_too(monkeypatch):
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in large(ROWS[:4])["data"]]
    raw = orjson.dumps({"rows": ["row", *rows, {"store": "1"}]})
    assert len(list(cut(raw).portions())) > 2
    assert_same(read_json(raw, limit=1_000_000), whole(monkeypatch, raw))


@pytest.mark.parametrize("text", ["a],[b", "a]]b", '\\"],[', '"data":[', "]],"])
def test_texts_that_look_like_the_cut_between_rows_change_nothing(monkeypatch, text):
    raw = orjson.dumps(large([["2", text, 3.5, 0], ["5", "d", 1.0, 1]]))
    assert_same(read_json(raw, limit=1_000_000), whole(monkeypatch, raw))


def test_lists_within_rows_change_nothing(monkeypatch):
    raw = orjson.dumps(large([["2", "t", [[1], [2]], 0], ["5", "d", 1.0, 1]]))
    assert_same(read_json(raw, limit=1_000_000), whole(monkeypatch, raw))


@pytest.mark.parametrize(
    "raw",
    [
        orjson.dumps(large(ROWS))[:-1] + b', "data": [["1", "t", 1.0, 0]]}',  # the last of two names counts
        orjson.dumps(large(ROWS))[:-1] + b', "rows": []}',
        orjson.dumps(large(ROWS))[:-1] + b', "d\\u0061ta": [["1", "t", 1.0, 0]]}',
        orjson.dumps(large(ROWS))[:-1] + b', "more": [[1]]}',
        orjson.dumps(large(ROWS))[:-2] + b"}",
        orjson.dumps(large(ROWS))[:-1],
        orjson.dumps(large([1])),
        orjson.dumps(large(ROWS, columns=["price"])),
        b"[" * PORTION_BYTES * 3,
    ],
)
def test_a_large_bulk_is_refused_as_a_small_one_is(monkeypatch, raw):
    outcomes = []
    for read in (lambda: read_json(raw, limit=1_000_000), lambda: whole(monkeypatch, raw)):
        try:
            outcomes.append(codes(read()))
        except Problem as problem:
            outcomes.append((problem.code, problem.detail))
    assert outcomes[0] == outcomes[1]


def test_a_large_bulk_of_too_many_rows_is_refused():
    with pytest.raises(TooManyRowsError):
        read_json(large(ROWS), limit=1_000)


def test_whole_numbers_beyond_float64_stay_exact_when_portions_are_joined():
    ids = view({"inputs": [{"name": "price", "dtype": "int64"}, {"name": "feat"}], "outputs": [{"name": "y"}]})
    rows = large([["2", "t", 3, 0]])["data"]
    rows[-1] = ["2", "t", 2**53 + 1, 0]
    read = read_json({"columns": COLUMNS, "data": rows}, seen=ids, limit=1_000_000)
    assert read.features.exact[0].tolist() == [3] * (len(rows) - 1) + [2**53 + 1]


LOOSE = [
    {"name": "f", "default": 2.5},
    {"name": "i", "dtype": "int64", "default": (1 << 60) + 1},
    {"name": "s", "dtype": "string", "default": "none"},
    {"name": "n", "nullable": True, "default": None},
    {"name": "needed"},
]
GIVEN = {"f": 1.0, "i": 7, "s": "x", "n": 4.0, "needed": 3.0}


@given(rows=st.lists(st.sets(st.sampled_from(list(GIVEN))), min_size=1, max_size=5))
def test_what_objects_leave_out_reads_as_if_its_default_had_been_sent(rows):
    seen = view({"inputs": LOOSE, "outputs": [{"name": "y"}]})
    key = {"store": "2", "brand": "t"}
    sent = [key | {name: GIVEN[name] for name in names} for names in rows]
    defaults = {spec["name"]: spec["default"] for spec in LOOSE if "default" in spec}
    found = read_json({"rows": sent}, seen=seen)
    assert codes(found) == {row: "feature_missing" for row, names in enumerate(rows) if "needed" not in names}
    spelled = read_json(
        {"rows": [defaults | row for row in sent if "needed" in row] or [defaults | sent[0]]}, seen=seen
    )
    if found.places.size:
        assert_same_features(found.features, spelled.features)


def assert_same_features(one, other):
    assert np.array_equal(one.matrix, other.matrix, equal_nan=True)
    assert {at: list(texts) for at, texts in one.text.items()} == {at: list(texts) for at, texts in other.text.items()}
    for at in one.exact.keys() | other.exact.keys():  # where all fit float64 it is left out
        width = len(one.matrix)
        alone, beside = (
            features.exact.get(at, features.matrix[:, at].astype(np.int64)).tolist() for features in (one, other)
        )
        assert alone == beside
        assert len(alone) == width


def test_objects_that_name_much_between_them_and_little_each_make_no_great_table():
    names = [f"x{i}" for i in range(4096)]
    wide = view({"inputs": [{"name": name, "default": 0} for name in names], "outputs": [{"name": "y"}]})
    key = {"store": "2", "brand": "t"}
    with pytest.raises(TooManyRowsError, match=r"send 25\d such rows"):
        read_json({"rows": [key | dict.fromkeys(names, 1)] + [key] * 500}, seen=wide, limit=100_000)
    whole = [key | dict.fromkeys(names, 1.0)] * 2
    assert read_json({"rows": whole}, seen=wide).features.matrix.tolist() == [[1.0] * 4096] * 2
