"""Packs of scikit-learn's trees answer and refuse as the estimators do."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from tests.support.packing import VALUE, assert_agree, classes, loaded, packed, signature
from workers.features import Features
from workers.packing.layout import MOST_NODES, NotPackableError
from workers.packing.proof import prove_pack
from workers.runtimes.sklearn import SKLEARN

# numpy warns of float64 that a float32 cannot hold, which pytest would make errors of the native models.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")

NAMES = ("a", "b", "c")
INPUTS = ("c", "unread", "a", "b")  # of the group, in another order
WIDEST = 3.4028235677973363e38  # rounds to the largest float32; the next float64 to infinity
EDGES = [np.nan, np.inf, -np.inf, 0.0, -0.0, WIDEST, np.nextafter(WIDEST, np.inf), -1e39, 1e300, 1e-46, 5e-324]
CELLS = st.one_of(st.sampled_from(EDGES), st.floats(), st.integers(-3, 12).map(float), st.floats(-9, 9))

REGRESSORS = {
    "tree": lambda seed: DecisionTreeRegressor(max_depth=5, random_state=seed),
    "extra tree": lambda seed: ExtraTreeRegressor(max_depth=5, random_state=seed),
    "stump": lambda seed: DecisionTreeRegressor(max_depth=1, random_state=seed),
    "leaf": lambda seed: DecisionTreeRegressor(min_samples_leaf=0.9, random_state=seed),
    "mae tree": lambda seed: DecisionTreeRegressor(max_depth=3, criterion="absolute_error", random_state=seed),
    "forest": lambda seed: RandomForestRegressor(7, max_depth=5, random_state=seed),
    "extra trees": lambda seed: ExtraTreesRegressor(7, max_depth=5, random_state=seed),
    "grown best first": lambda seed: RandomForestRegressor(3, max_leaf_nodes=9, random_state=seed),
    "boosting": lambda seed: GradientBoostingRegressor(n_estimators=9, random_state=seed),
    "boosting from zero": lambda seed: GradientBoostingRegressor(n_estimators=9, init="zero", random_state=seed),
    "boosting from a constant": lambda seed: GradientBoostingRegressor(
        n_estimators=3, init=DummyRegressor(strategy="constant", constant=3.3), random_state=seed
    ),
    "boosting huber": lambda seed: GradientBoostingRegressor(n_estimators=9, loss="huber", random_state=seed),
    "boosting quantile": lambda seed: GradientBoostingRegressor(n_estimators=9, loss="quantile", random_state=seed),
    "histograms": lambda seed: HistGradientBoostingRegressor(max_iter=9, random_state=seed),
    "histograms absolute": lambda seed: HistGradientBoostingRegressor(max_iter=9, loss="absolute_error"),
    "histograms poisson": lambda seed: HistGradientBoostingRegressor(max_iter=9, loss="poisson"),
    "histograms gamma": lambda seed: HistGradientBoostingRegressor(max_iter=9, loss="gamma"),
    "histograms quantile": lambda seed: HistGradientBoostingRegressor(max_iter=9, loss="quantile", quantile=0.3),
}
CLASSIFIERS = {
    "tree": lambda seed: DecisionTreeClassifier(max_depth=4, random_state=seed),
    "extra tree": lambda seed: ExtraTreeClassifier(max_depth=4, random_state=seed),
    "forest": lambda seed: RandomForestClassifier(6, max_depth=3, random_state=seed),
    "extra trees": lambda seed: ExtraTreesClassifier(6, max_depth=3, random_state=seed),
    "boosting": lambda seed: GradientBoostingClassifier(n_estimators=5, random_state=seed),
    "boosting from zero": lambda seed: GradientBoostingClassifier(n_estimators=5, init="zero", random_state=seed),
    "histograms": lambda seed: HistGradientBoostingClassifier(max_iter=5, random_state=seed),
}
TAKE_MISSING = ("tree", "extra tree", "stump", "leaf", "forest", "extra trees", "grown best first")


def table(seed=0, rows=150, *, missing=False):
    random = np.random.default_rng(seed)
    made = pd.DataFrame({name: random.normal(1, 3, rows) for name in NAMES})
    made["c"] = random.integers(-2, 9, rows).astype(float)
    if missing:
        made.loc[random.random(rows) < 0.2, "a"] = np.nan
    return made


def target(made):
    return np.abs(made["a"].fillna(4.0) * 2 + made["b"] % 3 + made["c"]).to_numpy() + 0.1


def labels(made, count):
    return np.array(["lo", "mid", "top"][:count])[np.minimum(target(made) // 5, count - 1).astype(int)]


@cache
def regressor(name, seed=0, missing=False):
    made = table(seed, missing=missing)
    of = signature(INPUTS)
    model = loaded(REGRESSORS[name](seed).fit(made, target(made)), of)
    return model, packed(model, of), of


@cache
def classifier(name, count, seed=0, missing=False):
    made = table(seed, missing=missing)
    of = signature(INPUTS, classes("top", "never seen", "lo", "mid"))
    model = loaded(CLASSIFIERS[name](seed).fit(made, labels(made, count)), of)
    return model, packed(model, of), of


def rows(seed=9, count=200, missing=0.0):
    random = np.random.default_rng(seed)
    matrix = random.normal(1, 4, (count, len(INPUTS)))
    matrix[:, 0] = random.integers(-3, 10, count)
    matrix[random.random(matrix.shape) < missing] = np.nan
    return Features(matrix)


def edges():
    return Features(
        np.array([[edge if at == place else 1.0 for at in range(4)] for edge in EDGES for place in range(4)])
    )


@pytest.mark.parametrize("name", REGRESSORS)
def test_every_regressor_answers_and_refuses_as_natively(name):
    of_model = regressor(name)
    assert_agree(*of_model, rows())
    refused = assert_agree(*of_model, edges())
    assert (refused > 0) == ("histograms" not in name)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_answers_labels_and_probabilities_over_the_groups_classes(name, count):
    model, pack, of = classifier(name, count)
    assert_agree(model, pack, of, rows())
    assert_agree(model, pack, of, edges())
    probabilities = model.predict(rows())[:, 1:]
    assert (probabilities[:, 1] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


@pytest.mark.parametrize("name", [*TAKE_MISSING, "histograms"])
def test_missing_values_take_the_side_that_training_found_best(name):
    of_model = regressor(name, missing=True)
    assert assert_agree(*of_model, rows(missing=0.4)) == 0
    if name in CLASSIFIERS:
        assert assert_agree(*classifier(name, 3, missing=True), rows(missing=0.4)) == 0


@pytest.mark.parametrize("name", ["boosting", "mae tree"])
def test_missing_values_are_refused_as_natively(name):
    model, pack, of = regressor(name)
    refused = assert_agree(model, pack, of, rows(missing=0.3))
    assert refused == (0 if name == "mae tree" else np.isnan(rows(missing=0.3).matrix[:, [0, 2, 3]]).any(axis=1).sum())


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(list(REGRESSORS)),
    st.integers(0, 2),
    st.lists(st.lists(CELLS, min_size=4, max_size=4), min_size=1, max_size=8),
)
def test_any_regressor_answers_any_row(name, seed, cells):
    assert_agree(*regressor(name, seed), Features(np.array(cells)))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(list(CLASSIFIERS)),
    st.sampled_from([2, 3]),
    st.booleans(),
    st.lists(st.lists(CELLS, min_size=4, max_size=4), min_size=1, max_size=8),
)
def test_any_classifier_answers_any_row(name, count, missing, cells):
    of_model = classifier(name, count, 0, missing and name not in ("boosting", "boosting from zero"))
    assert_agree(*of_model, Features(np.array(cells)))


@pytest.mark.parametrize("name", ["forest", "boosting", "histograms"])
def test_thresholds_and_their_neighbours_fall_to_the_native_side(name):
    model, pack, of = regressor(name)
    _, probe = SKLEARN.pack(b"", model, of)
    cells = []
    for thresholds in probe.thresholds.values():
        narrow = thresholds.astype(np.float32)
        for near in (
            thresholds,
            narrow,
            np.nextafter(narrow, np.float32(np.inf)),
            np.nextafter(narrow, np.float32(-9e9)),
        ):
            wide = near.astype(np.float64)
            cells += [wide, np.nextafter(wide, np.inf), np.nextafter(wide, -np.inf)]
    values = np.concatenate(cells)
    assert len(values) > 200
    assert_agree(model, pack, of, Features(np.repeat(values[:, None], 4, axis=1)))


def test_ties_of_a_forest_go_to_the_first_class_as_natively():
    made = pd.DataFrame({"a": [0.0, 1.0] * 4, "b": 0.0, "c": 0.0})
    of = signature(INPUTS, classes("lo", "top", shares=False))
    # Nothing distinguishes the rows of each half, so every leaf holds the same share of both classes.
    native = DecisionTreeClassifier().fit(made, ["top", "top", "lo", "lo"] * 2)
    model = loaded(native, of)
    pack = packed(model, of)
    assert_agree(model, pack, of, rows())
    assert (model.predict(rows()) == 0).all()


def test_several_numbers_of_a_forest_fill_several_outputs():
    made = table()
    of = signature(INPUTS, [{"name": "low", "width": 2}, {"name": "high"}])
    native = RandomForestRegressor(4, max_depth=3).fit(made, np.column_stack([target(made), made["a"], made["b"]]))
    model = loaded(native, of)
    assert_agree(model, packed(model, of), of, rows())


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_inputs_of_other_dtypes_are_read_as_natively(dtype):
    of = signature(INPUTS, dtypes=dict.fromkeys(INPUTS, dtype))
    made = table().round() if dtype == "int64" else table().astype(np.float32)
    matrix = rows().matrix.astype(np.float32).astype(np.float64) if dtype == "float32" else np.round(rows().matrix)
    for native in (RandomForestRegressor(3), HistGradientBoostingRegressor(max_iter=3), GradientBoostingRegressor()):
        model = loaded(native.fit(made, target(made)), of)
        assert_agree(model, packed(model, of), of, Features((matrix > 0) * 1.0 if dtype == "bool" else matrix))


def test_unnamed_features_are_read_by_position():
    made = table()
    of = signature(NAMES)
    for native in (ExtraTreesRegressor(3), GradientBoostingRegressor(n_estimators=3)):
        model = loaded(native.fit(made.to_numpy(), target(made)), of)
        assert_agree(model, packed(model, of), of, Features(rows().matrix[:, :3].copy()))


CATEGORIES = {
    "text": ("string", ["x", "y", "z", "longer"]),
    "whole": ("int64", [3, 700, 90_000, -5]),
    "yes": ("bool", [True, False]),
    "small": ("float64", [0.0, 3.0, 31.0, 64.0]),
}


@cache
def categorical(*names, missing=False, shares=False):
    random = np.random.default_rng(4)
    made = table()
    for name in names:
        made[name] = random.choice(np.array(CATEGORIES[name][1], dtype=object), len(made))
        if missing:
            made.loc[random.random(len(made)) < 0.2, name] = np.nan
        if CATEGORIES[name][0] != "string":
            made[name] = made[name].astype(float if missing else CATEGORIES[name][0])
    sums = target(made) + sum(9.0 * (made[name] == CATEGORIES[name][1][1]) for name in names)
    options = {"max_iter": 20, "categorical_features": list(names), "min_samples_leaf": 5}
    native = HistGradientBoostingRegressor(**options).fit(made, sums)
    if shares:
        native = HistGradientBoostingClassifier(**options).fit(made, np.where(sums > np.median(sums), "hi", "lo"))
    of = signature((*names, *INPUTS), classes("hi", "lo") if shares else VALUE, {n: CATEGORIES[n][0] for n in names})
    model = loaded(native, of)
    return model, packed(model, of), of


def category_rows(of, names, seed=1, count=150):
    random = np.random.default_rng(seed)
    matrix = random.normal(1, 4, (count, len(of.inputs)))
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    text = {}
    for position, name in enumerate(names):
        dtype, values = CATEGORIES[name]
        if dtype == "string":
            text[position] = random.choice(np.array([*values, "unseen", None], dtype=object), count).tolist()
            matrix[:, position] = np.nan
        else:
            unseen = [np.nan, 0, 1] if dtype == "bool" else [np.nan, 7, -1, 1e6, 300]
            more = [2.5, 0.5, 1e300] if dtype == "float64" else []
            matrix[:, position] = random.choice(np.array([*map(float, values), *unseen, *more]), count)
    return Features(matrix, text)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("names", [("text",), ("whole",), ("yes",), ("small",), ("small", "text", "whole")], ids=str)
def test_histogram_boosting_reads_categories(names, missing):
    model, pack, of = categorical(*names, missing=missing)
    assert assert_agree(model, pack, of, category_rows(of, names)) == 0
    assert assert_agree(*categorical(*names, missing=missing, shares=True), category_rows(of, names)) == 0


def test_an_infinite_category_is_refused_as_natively():
    model, pack, of = categorical("small", "text")
    features = category_rows(of, ("small", "text"), count=6)
    features.matrix[2, 0], features.matrix[4, 0], features.matrix[5, 3] = np.inf, -np.inf, np.inf
    assert assert_agree(model, pack, of, features) == 2


def test_pandas_categories_are_known_by_their_text():
    made = table()
    made["text"] = pd.Categorical(np.random.default_rng(0).choice(["b", "a", "c"], len(made)))
    native = HistGradientBoostingRegressor(max_iter=9, categorical_features="from_dtype")
    of = signature(("text", *INPUTS), dtypes={"text": "string"})
    model = loaded(native.fit(made, target(made) + 7 * (made["text"] == "b")), of)
    assert_agree(model, packed(model, of), of, category_rows(of, ("text",)))


def refused(native, of=None):
    of = of or signature(INPUTS)
    with pytest.raises(NotPackableError) as refusal:
        packed(loaded(native, of), of)
    return refusal.value.because


def test_what_trees_have_no_pack_is_refused_with_its_verdict():
    made, y = table(), target(table())
    stranger = GradientBoostingRegressor(n_estimators=2, init=LinearRegression())
    assert refused(stranger.fit(made, y)) == "estimator"
    random = GradientBoostingClassifier(n_estimators=2, init=DummyClassifier(strategy="stratified"))
    of = signature(INPUTS, classes("lo", "mid"))
    assert refused(random.fit(made, labels(made, 2)), of) == "estimator"
    assert refused(AdaBoostRegressor(n_estimators=2).fit(made, y)) == "estimator"
    assert refused(make_pipeline(StandardScaler(), DecisionTreeRegressor()).fit(made, y)) == "estimator"
    assert refused(DecisionTreeClassifier().fit(made, ["lo"] * len(made)), of) == "shape"
    assert refused(DecisionTreeClassifier().fit(made, (y > 3).astype(int))) == "shape"  # labels as numbers


@pytest.mark.parametrize("category", [2.5, -1.0, 5000.0])
def test_float_categories_that_are_no_small_whole_numbers_are_refused(category):
    made = table()
    made["c"] = np.random.default_rng(0).choice([1.0, category], len(made))
    native = HistGradientBoostingRegressor(max_iter=3, categorical_features=["c"]).fit(made, target(made))
    assert refused(native) == "shape"


def test_integers_beside_float32_inputs_are_refused():
    of = signature(INPUTS, dtypes={"a": "int64", "b": "float32"})
    assert refused(RandomForestRegressor(2).fit(table(), target(table())), of) == "precision"


def test_a_tree_with_more_nodes_than_a_pack_numbers_is_refused():
    values = np.random.default_rng(0).permutation(MOST_NODES + 2).astype(float)
    made = pd.DataFrame({"a": np.arange(len(values), dtype=float), "b": 0.0, "c": 0.0})
    assert refused(DecisionTreeRegressor().fit(made, values)) == "shape"
    largest = DecisionTreeRegressor(max_leaf_nodes=MOST_NODES + 1).fit(made, values)
    assert largest.tree_.node_count == 2 * MOST_NODES + 1
    of = signature(INPUTS)
    model = loaded(largest, of)
    assert_agree(model, packed(model, of), of, Features(np.repeat(np.arange(-2.0, 40_000, 7)[:, None], 4, axis=1)))


def test_a_pack_that_answers_otherwise_or_refuses_otherwise_is_not_proven():
    model, pack, of = regressor("forest", seed=5)
    _, probe = SKLEARN.pack(b"", model, of)
    prove_pack(pack, probe, model, of, SKLEARN.tolerance)
    for word, value, said in ((8, 7, "refuses rows"), (8, 0, "answers rows"), (7, 8, "otherwise")):
        spoiled = SKLEARN.pack(b"", model, of)[0]
        spoiled.words[word] = value
        with pytest.raises(NotPackableError, match=said):
            prove_pack(spoiled, probe, model, of, SKLEARN.tolerance)
