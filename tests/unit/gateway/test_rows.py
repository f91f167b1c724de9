"""Rows of a single predict: what is taken, what is refused, and with which row and field."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.data.rows import RowReader
from gateway.errors import (
    BodyInvalidError,
    FeatureMissingError,
    FeatureNullError,
    FeatureTypeError,
    FeatureUnknownError,
    RowWidthError,
)
from tests.support.views import signature


def reader(*inputs, key_fields=("store", "brand")):
    return RowReader(signature({"inputs": list(inputs), "outputs": [{"name": "y"}]}, key_fields))


PRICE = {"name": "price"}
FEAT = {"name": "feat", "dtype": "int64", "default": 0}


def read(rows, *inputs, key=None):
    return reader(*inputs).instances(rows, key or {})


def test_objects_and_arrays_make_the_same_matrix():
    by_name = read([{"feat": 1, "price": 3.5}, {"price": 2}], PRICE, FEAT)
    by_order = read([[3.5, 1], [2, 0]], PRICE, FEAT)
    assert by_name.matrix.tolist() == by_order.matrix.tolist() == [[3.5, 1.0], [2.0, 0.0]]
    assert by_name.matrix.flags.c_contiguous


def test_one_plain_row_takes_the_quick_path_to_the_same_matrix():
    quick = read([{"price": 3.5, "feat": 1}], PRICE, FEAT)
    assert quick.matrix.tolist() == read([{"price": 3.5, "feat": 1}] * 2, PRICE, FEAT).matrix[:1].tolist()


def test_absent_cells_take_the_default():
    assert read([{"price": 1.0}], PRICE, FEAT).matrix.tolist() == [[1.0, 0.0]]


def test_null_is_missing_only_where_the_input_is_nullable():
    assert math.isnan(read([{"price": None}], {"name": "price", "nullable": True}).matrix[0, 0])
    with pytest.raises(FeatureNullError) as refused:
        read([{"price": 1.0}, {"price": None}], PRICE)
    assert (refused.value.row, refused.value.field) == (1, "price")


@pytest.mark.parametrize("cell", [True, "3.5", [1], {}])
def test_only_numbers_are_numbers(cell):
    with pytest.raises(FeatureTypeError) as refused:
        read([{"price": 1.0}, {"price": cell}], PRICE)
    assert (refused.value.row, refused.value.field) == (1, "price")


@pytest.mark.parametrize("cell", [1.5, True, "1", 2**63, -(2**63) - 1, 2**64 - 1, 1e300])
def test_int64_takes_integers_of_64_bits_only(cell):
    for rows in ([{"feat": cell}], [{"feat": 1}, {"feat": cell}]):
        with pytest.raises(FeatureTypeError):
            read(rows, FEAT)


def test_an_integral_float_is_an_integer():
    assert read([{"feat": 3.0}], FEAT).matrix.tolist() == [[3.0]]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_every_int64_survives_exactly(cells):
    features = read([{"feat": cell} for cell in cells], FEAT)
    kept = features.exact.get(0)
    assert (kept.tolist() if kept is not None else [int(v) for v in features.matrix[:, 0]]) == cells


def test_float32_cells_are_rounded_to_float32_and_refused_beyond():
    spec = {"name": "x", "dtype": "float32"}
    for rows in ([{"x": 0.1}], [{"x": 0.1}, {"x": 1}]):
        assert read(rows, spec).matrix[0, 0] == float(np.float32(0.1))
    with pytest.raises(FeatureTypeError):
        read([{"x": 1e39}], spec)


def test_bool_takes_true_and_false_only():
    spec = {"name": "b", "dtype": "bool"}
    assert read([{"b": True}, {"b": False}], spec).matrix.tolist() == [[1.0], [0.0]]
    with pytest.raises(FeatureTypeError):
        read([{"b": 1}], spec)


def test_text_lies_beside_the_matrix():
    features = read([{"s": "a"}, {"s": None}], {"name": "s", "dtype": "string", "nullable": True})
    assert list(features.text[0]) == ["a", None]
    assert np.isnan(features.matrix[:, 0]).all()
    with pytest.raises(FeatureTypeError):
        read([{"s": 1}], {"name": "s", "dtype": "string"})


def test_a_closed_list_of_categories_is_enforced():
    spec = {"name": "s", "dtype": "string", "categories": ["a", "b"]}
    assert list(read([{"s": "b"}], spec).text[0]) == ["b"]
    with pytest.raises(FeatureTypeError, match="one of"):
        read([{"s": "c"}], spec)


def test_timestamps_become_microseconds():
    spec = {"name": "t", "dtype": "timestamp"}
    rows = [{"t": "1970-01-01T00:00:01Z"}, {"t": "1970-01-01T01:00:00+01:00"}]
    assert read(rows, spec).matrix.tolist() == [[1_000_000.0], [0.0]]
    with pytest.raises(FeatureTypeError):
        read([{"t": "yesterday"}], spec)


def test_missing_and_unknown_inputs_are_named():
    with pytest.raises(FeatureMissingError) as refused:
        read([{"price": 1.0}, {"feat": 1}], PRICE, FEAT)
    assert (refused.value.row, refused.value.field) == (1, "price")
    with pytest.raises(FeatureUnknownError) as refused:
        read([{"price": 1.0, "prize": 1}], PRICE, FEAT)
    assert (refused.value.row, refused.value.field) == (0, "prize")


def test_rows_are_all_objects_or_all_arrays_of_the_right_width():
    with pytest.raises(RowWidthError) as refused:
        read([[1.0, 2], [1.0]], PRICE, FEAT)
    assert refused.value.row == 1
    for rows in ([[1.0, 2], {"price": 1.0}], [{"price": 1.0}, [1.0, 2]], [3], ["x"]):
        with pytest.raises(BodyInvalidError):
            read(rows, PRICE, FEAT)


def test_inputs_fed_from_the_key_are_not_sent():
    specs = ({"name": "store", "dtype": "int64", "from_key": "store"}, PRICE)
    features = read([{"price": 1.5}, {"price": 2.5}], *specs, key={"store": "7", "brand": "x"})
    assert features.matrix.tolist() == [[7.0, 1.5], [7.0, 2.5]]
    assert read([[1.5]], *specs, key={"store": "7"}).matrix.tolist() == [[7.0, 1.5]]
    with pytest.raises(FeatureUnknownError, match="fed from the key"):
        read([{"price": 1.5, "store": 7}], *specs, key={"store": "7"})
    with pytest.raises(FeatureTypeError):
        read([{"price": 1.5}], *specs, key={"store": "seven"})


@pytest.mark.parametrize("store", [2**53 + 1, -(2**63), 2**63 - 1, 7])
def test_whole_numbers_fed_from_the_key_stay_exact(store):
    specs = ({"name": "store", "dtype": "int64", "from_key": "store"}, PRICE)
    one = read([[1.0], [2.0]], *specs, key={"store": str(store)})
    rows = np.array([1, 0, -1], dtype=np.int32)
    sent = reader(*specs).columns({"price": [1.0, 2.0, 3.0]}, 3, None)
    many = reader(*specs).feed(sent, {"store": ["5", str(store)]}, rows, None)
    if abs(store) <= 2**53:
        assert (dict(one.exact), dict(many.exact)) == ({}, {})
        assert (one.matrix[0, 0], many.matrix[:2, 0].tolist()) == (store, [store, 5.0])
    else:
        assert one.exact[0].tolist() == [store, store]
        assert many.exact[0].tolist() == [store, 5, 0]
    assert np.isnan(many.matrix[2, 0])


def test_a_key_that_cannot_feed_is_an_error_of_its_rows_alone():
    specs = ({"name": "store", "dtype": "int64", "from_key": "store"}, PRICE)
    errors = {}
    rows = np.array([0, 1, -1, 0], dtype=np.int32)
    sent = reader(*specs).columns({"price": [1.0] * 4}, 4, None)
    features = reader(*specs).feed(sent, {"store": ["seven", "7"]}, rows, errors.setdefault)
    assert {row: problem.code for row, problem in errors.items()} == {0: "feature_type", 3: "feature_type"}
    assert features.matrix[1, 0] == 7.0


def test_text_fed_from_the_key_reaches_every_row():
    specs = ({"name": "brand", "dtype": "string", "from_key": "brand"}, PRICE)
    assert list(read([[1.0], [2.0]], *specs, key={"brand": "x"}).text[0]) == ["x", "x"]
