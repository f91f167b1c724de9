"""Example rows are read cell by cell as a predict call would be, and compared strictly."""

import math

import numpy as np
import pytest

from registry.errors import MetaInvalidError
from registry.signature import Signature
from workers.builder.examples import compare, example_features, expected_scores
from workers.errors import ExampleMismatchError

SIGNATURE = Signature.from_json(
    {
        "inputs": [
            {"name": "price"},
            {"name": "share", "dtype": "float32", "nullable": True},
            {"name": "count", "dtype": "int64", "default": 3},
            {"name": "promo", "dtype": "bool", "default": False},
            {"name": "brand", "dtype": "string", "from_key": "brand"},
            {"name": "colour", "dtype": "string", "categories": ["red", "blue"], "default": "red"},
            {"name": "day", "dtype": "timestamp", "default": "2026-01-01T00:00:00Z"},
        ],
        "outputs": [{"name": "sales"}],
    },
    ["brand"],
)
ROW = {"price": 1, "share": 0.1}
KEY = {"brand": "tropicana"}


def test_defaults_keys_and_missing_values_are_filled_in():
    features = example_features(SIGNATURE, [ROW, {"price": 2.5, "share": None, "promo": True}], KEY)
    assert features.matrix[0, :4].tolist() == [1.0, float(np.float32(0.1)), 3.0, 0.0]
    assert math.isnan(features.matrix[1, 1])
    assert features.matrix[0, 6] == 1767225600e6
    assert features.text == {4: ["tropicana", "tropicana"], 5: ["red", "red"]}
    assert not features.exact


def test_integers_beyond_a_float_stay_exact():
    features = example_features(SIGNATURE, [ROW | {"count": 2**53 + 1}, ROW], KEY)
    assert features.exact[2].tolist() == [2**53 + 1, 3]


def test_a_row_may_be_an_array_in_signature_order():
    row = [1.0, None, 2, True, "minute", "blue", "2026-01-01T00:00:00Z"]
    assert example_features(SIGNATURE, [row], {}).text[4] == ["minute"]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"share": 1.0}, "price"),
        (ROW | {"price": None}, "price"),
        (ROW | {"price": True}, "price"),
        (ROW | {"price": "1"}, "price"),
        (ROW | {"count": 1.5}, "count"),
        (ROW | {"count": 2**63}, "count"),
        (ROW | {"promo": 1}, "promo"),
        (ROW | {"colour": "green"}, "colour"),
        (ROW | {"day": "yesterday"}, "day"),
        (ROW | {"prise": 1.0}, "prise"),
    ],
)
def test_a_bad_cell_is_refused_by_name(row, field):
    with pytest.raises(MetaInvalidError) as refused:
        example_features(SIGNATURE, [ROW, row], KEY)
    assert refused.value.field == f"examples.instances.1.{field}"


@pytest.mark.parametrize("row", ["text", 3, None, [1.0]])
def test_a_row_of_another_shape_is_refused(row):
    with pytest.raises(MetaInvalidError) as refused:
        example_features(SIGNATURE, [row], KEY)
    assert refused.value.field == "examples.instances.0"


def test_a_key_that_is_no_value_of_its_input_is_refused():
    signature = Signature.from_json(
        {"inputs": [{"name": "store", "dtype": "int64", "from_key": "store"}], "outputs": [{"name": "y"}]}, ["store"]
    )
    assert example_features(signature, [{}], {"store": "7"}).matrix.tolist() == [[7.0]]
    with pytest.raises(MetaInvalidError, match="'seven' is no int64"):
        example_features(signature, [{}], {"store": "seven"})


def _outputs(*outputs) -> Signature:
    return Signature.from_json({"inputs": [{"name": "x"}], "outputs": list(outputs)})


def test_expected_answers_have_the_form_of_a_predict_answer():
    value = {"name": "v"}
    label = {"name": "l", "kind": "label", "classes": ["lo", "hi"]}
    chances = {"name": "p", "kind": "probabilities", "classes": ["lo", "hi"]}
    np.testing.assert_array_equal(expected_scores(_outputs(value), [1.5, None]), [[1.5], [math.nan]])
    np.testing.assert_array_equal(expected_scores(_outputs(label), ["hi"]), [[1.0]])
    np.testing.assert_array_equal(expected_scores(_outputs(chances), [[0.25, 0.75]]), [[0.25, 0.75]])
    both = expected_scores(_outputs(label, chances), [{"l": "lo", "p": [0.9, 0.1]}])
    np.testing.assert_array_equal(both, [[0.0, 0.9, 0.1]])
    wide = expected_scores(_outputs({"name": "w", "width": 2}), [[1, 2]])
    np.testing.assert_array_equal(wide, [[1.0, 2.0]])


@pytest.mark.parametrize(
    ("outputs", "answer"),
    [
        ([{"name": "v"}], "1.5"),
        ([{"name": "v"}], True),
        ([{"name": "v"}], [1.0, 2.0]),
        ([{"name": "w", "width": 2}], [1.0]),
        ([{"name": "l", "kind": "label", "classes": ["lo", "hi"]}], "mid"),
        ([{"name": "v"}, {"name": "u"}], 1.0),
        ([{"name": "v"}, {"name": "u"}], {"v": 1.0}),
    ],
)
def test_an_expected_answer_of_another_form_is_refused(outputs, answer):
    with pytest.raises(MetaInvalidError) as refused:
        expected_scores(_outputs(*outputs), [answer])
    assert refused.value.field == "examples.predictions.0"


def test_scores_are_compared_within_the_tolerance_of_their_runtime():
    expected = np.array([[1.0], [math.nan]])
    compare(np.array([[1.0 + 1e-10], [math.nan]]), expected, "lightgbm")
    compare(np.array([[1.0 + 1e-7], [math.nan]]), expected, "onnx")
    with pytest.raises(ExampleMismatchError, match="example 0 answers"):
        compare(np.array([[1.0 + 1e-7], [math.nan]]), expected, "lightgbm")
    with pytest.raises(ExampleMismatchError) as refused:
        compare(np.array([[1.0], [0.0]]), expected, "onnx")
    assert refused.value.field == "examples.predictions.1"
