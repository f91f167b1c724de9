"""scikit-learn models answer what the native estimator answers to a DataFrame of the same rows."""

import pickle
import time

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression, RidgeClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from registry.signature import Signature
from tests.support import models
from workers.errors import ArtifactInvalidError, PredictionFailedError, SignatureMismatchError
from workers.features import Features
from workers.runtimes.runtime import Binding
from workers.runtimes.sheet import Sheet
from workers.runtimes.sklearn import SKLEARN


def signature(inputs=models.FEATURES, outputs=None, dtypes=None):
    specs = [{"name": name, "dtype": (dtypes or {}).get(name, "float64"), "nullable": True} for name in inputs]
    return Signature.from_json({"inputs": specs, "outputs": outputs or [{"name": "sales"}]})


def load(tiny, **options):
    return SKLEARN.load(tiny.data, Binding(signature(**options)))


@pytest.mark.parametrize(
    "make",
    [models.ridge, models.forest, models.hist_boosting, lambda: models.ridge(named=False)],
    ids=["ridge", "forest", "hist_boosting", "ridge of unnamed columns"],
)
def test_regressors_equal_the_native_estimator(make):
    tiny = make()
    table = models.frame(30, seed=5)
    features = Features(table.to_numpy().copy())
    native = tiny.native.predict(table if hasattr(tiny.native, "feature_names_in_") else table.to_numpy())
    model = load(tiny)
    # Not to the last bit: BLAS adds in another order for another memory layout.
    np.testing.assert_allclose(model.predict(features), native.reshape(-1, 1), rtol=1e-12)
    sheet = Sheet(features, 1)
    model.predict_rows(sheet, range(7))
    model.predict_rows(sheet, range(7, 30))
    np.testing.assert_allclose(sheet.scores, native.reshape(-1, 1), rtol=1e-12)


@pytest.mark.parametrize("make", [models.logistic, models.forest_classifier, models.hist_boosting_classifier])
def test_classifiers_answer_over_the_groups_classes(make):
    tiny = make(("lo", "hi"))
    table = models.frame(30, seed=5)
    outputs = [
        {"name": "size", "kind": "label", "classes": ["hi", "huge", "lo"]},
        {"name": "p", "kind": "probabilities", "classes": ["hi", "huge", "lo"]},
    ]
    scores = load(tiny, outputs=outputs).predict(Features(table.to_numpy().copy()))
    native = tiny.native.predict_proba(table)
    assert (scores[:, 2] == 0).all()
    np.testing.assert_allclose(scores[:, [1, 3]], native, rtol=1e-12)
    classes = np.array(["hi", "huge", "lo"])
    assert classes[scores[:, 0].astype(int)].tolist() == tiny.native.predict(table).tolist()


def test_a_pipeline_reads_text_and_missing_values_as_pandas_feeds_them():
    tiny = models.pipeline()
    brands = ["tropicana", None, "unheard of", "dominicks"]
    table = models.frame(4, seed=5)
    table.loc[1, "price"] = np.nan
    table["brand"] = brands
    model = load(tiny, inputs=("brand", "price", "feat"), dtypes={"brand": "string"})
    matrix = np.column_stack([np.full(4, np.nan), table[["price", "feat"]].to_numpy()])
    scores = model.predict(Features(matrix, {0: brands}))
    np.testing.assert_array_equal(scores, tiny.native.predict(table).reshape(-1, 1))


def test_integers_and_booleans_keep_their_dtype_where_a_model_may_care():
    table = pd.DataFrame({"store": [1, 2, 3, 1], "open": [True, False, True, True], "price": [1.0, 2.0, 3.0, 4.0]})
    encoded = ColumnTransformer(
        [("one", OneHotEncoder(handle_unknown="ignore"), ["store", "open"])], remainder="passthrough"
    )
    native = Pipeline([("columns", encoded), ("line", LinearRegression())]).fit(table, [1.0, 2.0, 3.0, 5.0])
    names = ("price", "open", "store")
    model = load(models.sklearn_model(native), inputs=names, dtypes={"open": "bool", "store": "int64"})
    matrix = table[list(names)].to_numpy(dtype=float)
    np.testing.assert_allclose(model.predict(Features(matrix)), native.predict(table).reshape(-1, 1), rtol=1e-12)


def test_a_model_trained_on_float32_is_fed_float32():
    table = models.frame().astype(np.float32)
    native = LinearRegression().fit(table, models.target(table))
    model = load(models.sklearn_model(native), dtypes=dict.fromkeys(models.FEATURES, "float32"))
    scores = model.predict(Features(table.to_numpy(dtype=np.float64)))
    np.testing.assert_allclose(scores, native.predict(table).astype(np.float64).reshape(-1, 1), rtol=1e-6)


def test_histogram_boosting_reads_pandas_categories():
    table = models.frame()
    table["brand"] = pd.Categorical(np.random.default_rng(0).choice(["a", "b", "c"], 200))
    native = HistGradientBoostingRegressor(max_iter=5, categorical_features="from_dtype")
    native.fit(table, models.target(table) + 9 * table["brand"].cat.codes)
    model = load(models.sklearn_model(native), inputs=("price", "feat", "brand"), dtypes={"brand": "string"})
    matrix = np.column_stack([table[["price", "feat"]].to_numpy(), np.full(200, np.nan)])
    scores = model.predict(Features(matrix, {2: table["brand"].astype(str).tolist()}))
    np.testing.assert_array_equal(scores, native.predict(table).reshape(-1, 1))


def test_several_numbers_a_row_fill_several_outputs():
    table = models.frame()
    answers = np.column_stack([models.target(table), models.target(table, 1)])
    outputs = [{"name": "low"}, {"name": "high"}]
    for native in (LinearRegression(), MultiOutputRegressor(LinearRegression()), RandomForestRegressor(2, n_jobs=-1)):
        native.fit(table, answers)
        model = load(models.sklearn_model(native), outputs=outputs)
        np.testing.assert_array_equal(model.predict(Features(table.to_numpy().copy())), native.predict(table))
    with pytest.raises(SignatureMismatchError, match="answers 1"):
        load(models.ridge(), outputs=outputs)


def test_a_classifier_without_probabilities_answers_labels_only():
    table = models.frame()
    native = RidgeClassifier().fit(table, models.labels(table, ("a", "b")))
    tiny = models.sklearn_model(native)
    label = [{"name": "c", "kind": "label", "classes": ["a", "b"]}]
    scores = load(tiny, outputs=label).predict(Features(table.to_numpy().copy()))
    assert np.array(["a", "b"])[scores[:, 0].astype(int)].tolist() == native.predict(table).tolist()
    with pytest.raises(SignatureMismatchError, match="no probabilities"):
        load(tiny, outputs=[{"name": "p", "kind": "probabilities", "classes": ["a", "b"]}])
    with pytest.raises(SignatureMismatchError, match="text labels"):
        load(tiny)


def test_rows_the_estimator_refuses_are_a_failed_prediction():
    with pytest.raises(PredictionFailedError, match="NaN"):
        load(models.ridge()).predict(Features(np.full((1, 2), np.nan)))


def test_an_unfitted_estimator_is_refused():
    with pytest.raises(ArtifactInvalidError, match="not fitted"):
        load(models.sklearn_model(LinearRegression()))


class Canary:
    """Would leave a file behind if anything ran it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_types_that_are_not_on_the_list_are_refused_and_never_run(tmp_path):
    canary = tmp_path / "canary"
    hostile = Pipeline([("bad", FunctionTransformer(time.sleep)), ("line", LinearRegression())])
    table = models.frame()
    hostile.steps[1][1].fit(table, models.target(table))
    with pytest.raises(ArtifactInvalidError, match=r"time\.sleep"):
        load(models.sklearn_model(hostile))
    native = LinearRegression().fit(table, models.target(table))
    native.extra = Canary(canary)
    with pytest.raises(ArtifactInvalidError, match="not allowed"):
        SKLEARN.load(skops.io.dumps(native), Binding(signature()))
    with pytest.raises(ArtifactInvalidError, match="zip"):
        SKLEARN.load(pickle.dumps(Canary(canary)), Binding(signature()))
    assert not canary.exists()


def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused():
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("schema.json", "{}")
        file.writestr("bomb.npy", bytes(64 << 20))
    with pytest.raises(ArtifactInvalidError, match="over the limit"):
        SKLEARN.sniff(packed.getvalue())


def test_scaled_pipelines_are_fed_the_bare_matrix():
    table = models.frame()
    native = Pipeline([("scale", StandardScaler()), ("line", LinearRegression())]).fit(table, models.target(table))
    model = load(models.sklearn_model(native))
    assert not model._framed
    np.testing.assert_array_equal(
        model.predict(Features(table.to_numpy().copy())), native.predict(table).reshape(-1, 1)
    )
