"""Packs of linear models, and of pipelines that end in one, answer and refuse as the estimators do."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    SGDClassifier,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeRegressor

from tests.support.linear import (
    DECIDING,
    DTYPES,
    INPUTS,
    NAMES,
    REGRESSORS,
    SHARING,
    TEXTS,
    features,
    labels,
    pair,
    table,
    target,
)
from tests.support.packing import VALUE, assert_agree, classes, loaded, packed, signature
from workers.features import Features
from workers.packing.kernel import score
from workers.packing.layout import INFINITE, MISSING, UNKNOWN, NotPackableError, head_of
from workers.packing.scoring import coded
from workers.runtimes.runtime import Binding
from workers.runtimes.sklearn import SklearnModel

# Unknown categories beside dropped ones, sums that overflow, fits that stop early.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", REGRESSORS)
def test_every_regressor_answers_as_natively(name):
    of_model = pair(REGRESSORS[name], ("a", "b", "k"))
    assert assert_agree(*of_model, features(), slack=10.0) == 0
    assert assert_agree(*of_model, features(missing=0.3), slack=10.0) > 10


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", SHARING)
def test_classifiers_answer_labels_and_probabilities_over_the_groups_classes(name, count):
    outputs = classes("top", "never seen", "lo", "mid")
    model, pack, of = pair(SHARING[name], ("b", "a"), outputs, y=labels(table(), count))
    assert assert_agree(model, pack, of, features(count=300), slack=1.0) == 0
    scores, _ = score(pack.words, coded(pack.codes, features()), of.width)
    assert (scores[:, 2] == 0).all()
    np.testing.assert_allclose(scores[:, 1:].sum(axis=1), 1.0)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", [*DECIDING, *SHARING])
def test_classifiers_without_probabilities_answer_labels(name, count):
    outputs = classes("top", "lo", "mid", shares=False)
    native = {**DECIDING, **SHARING}[name]
    assert assert_agree(*pair(native, ("b", "a"), outputs, y=labels(table(), count)), features(count=300)) == 0


@pytest.mark.parametrize("native", [SGDClassifier(random_state=0), Perceptron(), SGDClassifier(loss="modified_huber")])
def test_losses_that_are_decided_but_no_probabilities(native):
    # Their files hold a loss that the server does not allow (yet), so the estimator is bound as it is.
    made = table()[["a", "b"]]
    for count in (2, 3):
        of = signature(INPUTS, classes("top", "lo", "mid", shares=False))
        model = SklearnModel(native.fit(made, labels(table(), count)), Binding(of))
        assert assert_agree(model, packed(model, of), of, features(count=300)) == 0


def test_a_decision_of_exactly_zero_is_the_first_class_as_natively():
    native = LogisticRegression(fit_intercept=False)
    model, pack, of = pair(native, ("a", "b"), classes("lo", "mid"), y=labels(table(), 2))
    zeros = Features(np.zeros((3, len(INPUTS))), {0: ["x"] * 3})
    assert assert_agree(model, pack, of, zeros) == 0
    assert model.predict(zeros).tolist() == [[0.0, 0.5, 0.5]] * 3


def test_probabilities_that_are_all_zero_are_shared_evenly_as_natively():
    native = SGDClassifier(loss="log_loss", random_state=0).fit(table()[["a", "b"]], labels(table(), 3))
    native.coef_, native.intercept_ = np.zeros((3, 2)), np.full(3, -1e4)
    of = signature(INPUTS, classes("lo", "mid", "top"))
    model = loaded(native, of)
    assert_agree(model, packed(model, of), of, features())
    np.testing.assert_array_equal(model.predict(features())[:, 1:], np.full((60, 3), 1 / 3))


def test_several_numbers_a_row_fill_several_outputs():
    made = table()
    y = np.column_stack([target(made), made["a"] - made["b"]])
    for native in (LinearRegression(), Ridge()):
        assert_agree(*pair(native, outputs=[{"name": "low"}, {"name": "high"}], y=y), features(), slack=30.0)


def encoded(handle="ignore", drop=None, **options):
    return OneHotEncoder(handle_unknown=handle, drop=drop, **options)


SCALERS = {
    "standard": StandardScaler(),
    "not centred": StandardScaler(with_mean=False),
    "not scaled": StandardScaler(with_std=False),
    "min max": MinMaxScaler((-2, 3)),
    "clipped": MinMaxScaler(clip=True),
    "max abs": MaxAbsScaler(),
    "robust": RobustScaler(),
    "robust centred": RobustScaler(with_scaling=False),
    "two": Pipeline([("one", MinMaxScaler()), ("other", StandardScaler())]),
    "identity": FunctionTransformer(),
}


@pytest.mark.parametrize("name", SCALERS)
def test_scalers_before_a_linear_model(name):
    of_model = pair(make_pipeline(SCALERS[name], Ridge()), ("a", "b", "k"))
    assert assert_agree(*of_model, features(spread=9.0), slack=100.0) == 0
    assert assert_agree(*of_model, features(missing=0.3)) > 10


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(),
        SimpleImputer(strategy="median"),
        SimpleImputer(strategy="most_frequent"),
        SimpleImputer(strategy="constant", fill_value=-1.5),
        SimpleImputer(add_indicator=True),
    ],
    ids=str,
)
def test_imputers_fill_what_is_missing(imputer, name):
    native = make_pipeline(imputer, SCALERS[name], Ridge())
    of_model = pair(native, ("a", "b", "k"), missing=True)
    assert assert_agree(*of_model, features(missing=0.4), slack=100.0) == 0
    infinite = features()
    infinite.matrix[::2, 3] = np.inf
    assert assert_agree(*of_model, infinite) == 30


def test_columns_that_were_never_filled_are_dropped_but_checked():
    made = table()
    made["b"] = np.nan
    for keep in (False, True):
        native = make_pipeline(SimpleImputer(keep_empty_features=keep), LinearRegression())
        of = signature(INPUTS, dtypes=DTYPES)
        model = loaded(native.fit(made[["a", "b"]], target(made)), of)
        infinite = features(missing=0.2)
        infinite.matrix[5, 3] = -np.inf
        assert assert_agree(model, packed(model, of), of, infinite, slack=10.0) == 1


def columns(handle, drop=None, remainder="passthrough", numbers=("a",)):
    scaled = Pipeline([("fill", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    steps = [("encode", encoded(handle, drop), ["t", "k"]), ("numbers", scaled, list(numbers))]
    return ColumnTransformer(steps, remainder=remainder)


@cache
def encoded_pair(handle, drop):
    return pair(Pipeline([("columns", columns(handle, drop)), ("line", Ridge())]), NAMES)


@cache
def filled_pair():
    inner = columns("ignore", numbers=("a", "b"))
    return pair(Pipeline([("columns", inner), ("line", Ridge())]), NAMES, missing=True)


@pytest.mark.parametrize("drop", [None, "first", "if_binary"])
@pytest.mark.parametrize("handle", ["ignore", "error", "infrequent_if_exist"])
def test_encoders_know_numbers_and_texts(handle, drop):
    of_model = encoded_pair(handle, drop)
    assert assert_agree(*of_model, features(), slack=100.0) == 0
    refused = assert_agree(*of_model, features(unseen=True), slack=100.0)
    assert (refused > 0) == (handle == "error")


def test_what_is_refused_says_why():
    model, pack, of = encoded_pair("error", None)
    unseen = features(count=4)
    unseen.text[0][1] = "unseen"
    unseen.matrix[2, 3], unseen.matrix[3, 3] = np.nan, np.inf
    _, states = score(pack.words, coded(pack.codes, unseen), of.width)
    assert states.tolist() == [0, UNKNOWN, MISSING, INFINITE]
    assert assert_agree(model, pack, of, unseen, slack=100.0) == 3


@pytest.mark.parametrize("handle", ["ignore", "error"])
def test_a_missing_text_is_a_category_where_training_had_one(handle):
    made = table(missing=True)
    native = Pipeline([("columns", ColumnTransformer([("e", encoded(handle), ["t"])])), ("line", Ridge())])
    of_model = pair(native, ("t",), missing=True, y=made["t"].isna() * 7.0 + made["k"])
    assert assert_agree(*of_model, features(missing=0.3), slack=10.0) == 0
    answers = of_model[0].predict(Features(np.full((2, 5), np.nan), {0: [None, "x"]}))
    assert answers[0] > answers[1] + 3


def test_missing_texts_are_filled_before_they_are_encoded():
    for imputer in (SimpleImputer(strategy="most_frequent"), SimpleImputer(strategy="constant", fill_value="none")):
        inner = Pipeline([("fill", imputer), ("encode", encoded())])
        steps = [("text", inner, ["t"]), ("raw", encoded(), ["t"]), ("k", encoded(), ["k"])]
        native = Pipeline([("columns", ColumnTransformer(steps)), ("line", Ridge())])
        of_model = pair(native, NAMES, missing=True)
        assert assert_agree(*of_model, features(missing=0.3, unseen=True), slack=10.0) == 0


def test_indicators_are_scaled_and_columns_are_taken_by_position_or_dropped():
    inner = ColumnTransformer(
        [("e", encoded(sparse_output=False), [3]), ("n", "passthrough", [1, 0]), ("d", "drop", [2])]
    )
    for scaler in (StandardScaler(), MaxAbsScaler(clip=True), MinMaxScaler(clip=True), RobustScaler()):
        of_model = pair(make_pipeline(inner, scaler, Ridge()), NAMES)
        assert assert_agree(*of_model, features(unseen=True), slack=100.0) == 0
    native = make_pipeline(
        columns("ignore", remainder="drop", numbers=("b",)), StandardScaler(with_mean=False), Ridge()
    )
    with_nan = features(missing=0.5)
    with_nan.matrix[:, 4] = np.inf  # of a column that is dropped, and hence not checked
    assert assert_agree(*pair(native, NAMES), with_nan, slack=100.0) == 0


def test_a_classifier_behind_columns_of_text():
    native = Pipeline([("columns", columns("ignore")), ("line", LogisticRegression(max_iter=300))])
    of_model = pair(native, NAMES, classes("mid", "lo", "top"), y=labels(table(), 3))
    assert assert_agree(*of_model, features(unseen=True), slack=1.0) == 0


def test_numeric_categories_are_told_apart_exactly():
    made = pd.DataFrame({"a": [0.1, 0.2, -0.0, 1e300, np.nan] * 20, "b": 1.0})
    of = signature(("a", "b"))
    for handle in ("ignore", "error"):
        model = loaded(make_pipeline(encoded(handle), Ridge()).fit(made, np.arange(100.0)), of)
        values = [0.1, np.nextafter(0.1, 1), 0.2, 0.0, -0.0, 5e-324, 1e300, np.nan, np.inf, -np.inf, 1.0]
        rows = Features(np.column_stack([values, np.ones(len(values))]))
        assert assert_agree(model, packed(model, of), of, rows, slack=10.0) == (5 if handle == "error" else 2)


CELLS = st.one_of(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324]), st.floats(-99, 99))
TEXT = st.sampled_from([*TEXTS, "unseen", None])
NATIVES = {
    "ignored": lambda: encoded_pair("ignore", None),
    "refused": lambda: encoded_pair("error", "first"),
    "filled": filled_pair,
    "clipped": cache(lambda: pair(make_pipeline(SimpleImputer(), MinMaxScaler(clip=True), Ridge()), ("a", "k"))),
    "plain": cache(lambda: pair(Lasso(0.1), ("a", "b"))),
}


@settings(deadline=None, max_examples=120)
@given(
    st.sampled_from(list(NATIVES)),
    st.lists(st.tuples(TEXT, st.integers(-1, 6), CELLS, CELLS, CELLS), min_size=1, max_size=5),
)
def test_any_row_is_answered_or_refused_as_natively(name, cells):
    matrix = np.array([[np.nan, *row[1:]] for row in cells])
    model, pack, of = NATIVES[name]()
    assert_agree(model, pack, of, Features(matrix, {0: [row[0] for row in cells]}), slack=100.0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from(list(SCALERS)), st.sampled_from(list(REGRESSORS)), st.booleans())
def test_any_fitted_pipeline_is_proved(seed, scaler, name, missing):
    random = np.random.default_rng(seed)
    made = table(seed, missing=missing)[["a", "b", "k"]] * random.choice([1e-3, 1.0, 1e3], 3)
    native = make_pipeline(SimpleImputer(add_indicator=bool(seed % 2)), SCALERS[scaler], REGRESSORS[name])
    y = random.gamma(2.0, 1.0, len(made)) + 0.1
    of = signature(("b", "a", "k"))
    model = loaded(native.fit(made, y), of)
    rows = made[["b", "a", "k"]].to_numpy(dtype=float)
    answers = np.abs(model.predict(Features(rows)))
    if np.isfinite(answers).all() and answers.max() < 1e9:  # SGD may have run away
        assert_agree(model, packed(model, of), of, Features(rows), slack=float(answers.max()))


@pytest.mark.parametrize("dtype", ["int64", "bool", "timestamp"])
def test_inputs_of_other_dtypes_are_read_as_natively(dtype):
    of = signature(("a", "b"), dtypes={"a": dtype, "b": "float64"})
    random = np.random.default_rng(0)
    whole = random.integers(0, 2 if dtype == "bool" else 9, 100).astype(float)
    rows = np.column_stack([whole * (1e6 if dtype == "timestamp" else 1), random.normal(size=100)])
    made = pd.DataFrame(rows, columns=["a", "b"]).astype({"a": "float64" if dtype == "timestamp" else dtype})
    encode = ColumnTransformer([("e", encoded(), ["a"])], remainder="passthrough")
    for native in (make_pipeline(encode, Ridge()), make_pipeline(StandardScaler(), Ridge()), LinearRegression()):
        model = loaded(native.fit(made, rows.sum(axis=1)), of)
        assert assert_agree(model, packed(model, of), of, Features(rows), slack=1e7) == 0


def refused(native, made=None, outputs=VALUE, y=None, dtypes=DTYPES, names=("a", "b")):
    made = table() if made is None else made
    of = signature(INPUTS, outputs, dtypes)
    with pytest.raises(NotPackableError) as refusal:
        packed(loaded(native.fit(made[list(names)], target(table()) if y is None else y), of), of)
    return refusal.value.because


def test_what_has_no_pack_is_refused_with_its_verdict():
    assert refused(make_pipeline(PolynomialFeatures(), Ridge())) == "estimator"
    assert refused(make_pipeline(PowerTransformer(), Ridge())) == "estimator"
    assert refused(make_pipeline(StandardScaler(), DecisionTreeRegressor(max_depth=2))) == "estimator"
    assert refused(make_pipeline(SimpleImputer(missing_values=0.0), Ridge())) == "estimator"
    weighed = ColumnTransformer([("s", StandardScaler(), ["a", "b"])], transformer_weights={"s": 2.0})
    assert refused(make_pipeline(weighed, Ridge())) == "estimator"
    infrequent = encoded("infrequent_if_exist", min_frequency=50)
    assert refused(make_pipeline(infrequent, Ridge()), names=("k",)) == "estimator"
    twice = make_pipeline(encoded(sparse_output=False), encoded(), Ridge())
    assert refused(twice, names=("k",)) == "estimator"
    assert refused(make_pipeline(encoded(dtype=np.float32), Ridge()), names=("k",)) == "precision"
    wide = LinearRegression()
    assert refused(wide, outputs=[{"name": "y", "width": 257}], y=np.outer(target(table()), np.arange(257))) == "shape"


def test_labels_as_numbers_and_other_losses_have_no_pack():
    with_numbers = LogisticRegression()
    assert refused(with_numbers, y=(target(table()) > 9).astype(int)) == "shape"
    made = table()[["a", "b"]]
    native = SGDClassifier(loss="modified_huber").fit(made, labels(table(), 2))
    of = signature(INPUTS, classes("lo", "mid"))
    with pytest.raises(NotPackableError) as refusal:
        packed(SklearnModel(native, Binding(of)), of)
    assert refusal.value.because == "objective"


def test_what_computes_in_float32_has_no_pack():
    narrow = dict.fromkeys(INPUTS, "float32")
    made = table()[["a", "b"]].astype(np.float32)
    assert refused(LinearRegression(), made, dtypes=narrow) == "precision"
    assert refused(make_pipeline(StandardScaler(), Ridge()), table(), dtypes=narrow) == "precision"
    inner = ColumnTransformer([("s", StandardScaler(), ["a"])], remainder="passthrough")
    assert refused(make_pipeline(inner, Ridge()), table(), dtypes={"a": "float32"}) == "precision"


def test_float64_coefficients_take_float32_inputs():
    of = signature(("a", "b"), dtypes={"a": "float32", "b": "float32"})
    made = table()[["a", "b"]]
    model = loaded(LinearRegression().fit(made, target(table())), of)
    rows = features().matrix[:, 3:].astype(np.float32).astype(np.float64)
    assert assert_agree(model, packed(model, of), of, Features(rows), slack=10.0) == 0


def test_a_pack_of_many_categories_is_a_table():
    random = np.random.default_rng(0)
    names = np.array([f"shop {number}" for number in range(500)], dtype=object)
    made = pd.DataFrame({"t": np.concatenate([names, random.choice(names, 1500)])})
    native = make_pipeline(ColumnTransformer([("e", encoded("error"), ["t"])]), Ridge()).fit(
        made, random.normal(size=2000)
    )
    of = signature(("t",), dtypes={"t": "string"})
    model = loaded(native, of)
    pack = packed(model, of)
    assert head_of(pack.words).parts == 1
    assert len(pack.words) < 1100
    rows = Features(np.full((501, 1), np.nan), {0: [*names, "unseen"]})
    assert assert_agree(model, pack, of, rows, slack=1.0) == 1
