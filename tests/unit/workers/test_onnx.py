"""ONNX models answer what onnxruntime answers when it is fed the same tensors."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from registry.signature import Signature
from tests.support import models
from workers.errors import ArtifactInvalidError, PredictionFailedError, SignatureMismatchError
from workers.features import Features
from workers.runtimes.onnx import ONNX
from workers.runtimes.runtime import Binding
from workers.runtimes.sheet import Sheet


def signature(inputs=models.FEATURES, outputs=None, dtypes=None):
    specs = [{"name": name, "dtype": (dtypes or {}).get(name, "float64"), "nullable": True} for name in inputs]
    return Signature.from_json({"inputs": specs, "outputs": outputs or [{"name": "sales"}]})


def load(tiny, classes=(), **options):
    return ONNX.load(tiny.data, Binding(signature(**options), classes))


def native(tiny, feed):
    session = onnxruntime.InferenceSession(tiny.data, providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def rows(count=30, width=2):
    return Features(np.random.default_rng(5).uniform(0, 10, (count, width)))


def test_one_tensor_of_unnamed_features_equals_onnxruntime():
    tiny, features = models.onnx_ridge(), rows()
    expected = native(tiny, {"X": features.matrix.astype(np.float32)})[0].astype(np.float64)
    model = load(tiny)
    np.testing.assert_array_equal(model.predict(features), expected)
    sheet = Sheet(features, 1)
    model.predict_rows(sheet, range(9))
    model.predict_rows(sheet, range(9, 30))
    np.testing.assert_allclose(sheet.scores, expected, rtol=1e-6)


def test_unnamed_features_must_be_as_many_as_the_signatures_inputs():
    with pytest.raises(SignatureMismatchError, match="2 unnamed features"):
        load(models.onnx_ridge(), inputs=("price", "feat", "week"))


def test_metadata_may_name_the_columns_of_one_tensor():
    tiny = models.onnx_matrix_sum(metadata={"feature_names": '["week", "price"]'})
    model = load(tiny, inputs=("price", "feat", "week"))
    assert model.inputs == (2, 0)
    np.testing.assert_array_equal(model.predict(Features(np.array([[1.0, 10.0, 100.0]]))), [[101.0]])


@pytest.mark.parametrize(
    ("dtype", "declared"),
    [
        (TensorProto.FLOAT, "float32"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.INT64, "int64"),
        (TensorProto.INT32, "int64"),
        (TensorProto.BOOL, "bool"),
    ],
)
def test_named_inputs_are_bound_by_name_in_the_graphs_dtype(dtype, declared):
    tiny = models.onnx_sum(("week", "price"), dtype=dtype)
    model = load(tiny, inputs=("price", "feat", "week"), dtypes=dict.fromkeys(("price", "feat", "week"), declared))
    assert model.inputs == (2, 0)
    features = Features(np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]))
    np.testing.assert_array_equal(model.predict(features), [[1.0], [2.0]])
    assert model.predict(Features(np.empty((0, 3)))).shape == (0, 1)


def test_integers_beyond_a_float_arrive_exactly():
    big = 2**60 + 1
    model = load(models.onnx_matrix_sum(1, dtype=TensorProto.INT64), inputs=("n",), dtypes={"n": "int64"})
    feed = model._feeder.feed(Features(np.array([[float(big)]]), exact={0: np.array([big])}))
    assert feed["X"].tolist() == [[big]]


def test_a_missing_whole_number_is_a_failed_prediction():
    model = load(models.onnx_sum(dtype=TensorProto.INT64), dtypes={"price": "int64", "feat": "int64"})
    with pytest.raises(PredictionFailedError, match="'feat' is missing"):
        model.predict(Features(np.array([[1.0, np.nan]])))


def test_an_unknown_input_name_is_refused():
    with pytest.raises(SignatureMismatchError, match="'rain'"):
        load(models.onnx_sum(("price", "rain")))


def test_text_and_numbers_are_not_mixed_up():
    with pytest.raises(SignatureMismatchError, match="reads numbers"):
        load(models.onnx_sum(), dtypes={"feat": "string"})


CLASSES = ["hi", "huge", "lo"]
OUTPUTS = [
    {"name": "size", "kind": "label", "classes": CLASSES},
    {"name": "p", "kind": "probabilities", "classes": CLASSES},
]


@pytest.mark.parametrize("zipmap", [False, True])
def test_a_classifier_answers_over_the_groups_classes(zipmap):
    tiny, features = models.onnx_logistic(("lo", "hi"), zipmap=zipmap), rows()
    labels, probabilities = native(tiny, {"X": features.matrix.astype(np.float32)})
    if zipmap:
        probabilities = np.array([[row["hi"], row["lo"]] for row in probabilities])
    scores = load(tiny, outputs=OUTPUTS).predict(features)
    assert [CLASSES[int(label)] for label in scores[:, 0]] == labels.tolist()
    np.testing.assert_array_equal(scores[:, 1:], np.insert(probabilities.astype(np.float64), 1, 0.0, axis=1))
    only = load(tiny, outputs=OUTPUTS[:1]).predict(features)
    np.testing.assert_array_equal(only[:, 0], scores[:, 0])


def test_integer_classes_may_be_named_by_the_author():
    tiny, features = models.onnx_logistic((0, 1)), rows()
    labels, _ = native(tiny, {"X": features.matrix.astype(np.float32)})
    scores = load(tiny, classes=("lo", "hi"), outputs=OUTPUTS).predict(features)
    assert [CLASSES[int(label)] for label in scores[:, 0]] == [("lo", "hi")[label] for label in labels]


def test_several_outputs_are_matched_by_name_or_summed_up_by_width():
    two = [{"name": "low"}, {"name": "high"}]
    with pytest.raises(SignatureMismatchError, match="answers 1"):
        load(models.onnx_sum(), outputs=two)
    with pytest.raises(SignatureMismatchError, match="wants numbers"):
        load(models.onnx_logistic())


def test_weights_in_another_file_are_refused():
    with pytest.raises(ArtifactInvalidError, match="another file"):
        ONNX.load(models.onnx_external_data(), Binding(signature()))


def test_a_graph_that_onnxruntime_refuses_is_an_invalid_artifact():
    from onnx import helper

    node = helper.make_node("NoSuchOperator", ["X"], ["total"])
    value = helper.make_tensor_value_info
    tiny = models._graph(
        [node], [value("X", TensorProto.FLOAT, [None, 2])], [value("total", TensorProto.FLOAT, [None, 1])], None
    )
    with pytest.raises(ArtifactInvalidError, match="onnxruntime"):
        load(tiny)
