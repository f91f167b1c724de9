"""LightGBM's answers are compared to the last bit: nothing here is approximate."""

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from registry.signature import Signature
from tests.support import models
from workers.errors import ArtifactInvalidError, SignatureMismatchError
from workers.features import Features
from workers.runtimes.lightgbm import LIGHTGBM
from workers.runtimes.lightgbm_text import read_text
from workers.runtimes.runtime import Binding
from workers.runtimes.sheet import Sheet


def signature(inputs=models.FEATURES, outputs=None, dtypes=None):
    specs = [{"name": name, "dtype": (dtypes or {}).get(name, "float64"), "nullable": True} for name in inputs]
    return Signature.from_json({"inputs": specs, "outputs": outputs or [{"name": "sales"}]})


def rows(count=50, width=2, seed=3):
    return Features(np.random.default_rng(seed).uniform(-1, 11, (count, width)))


def assert_every_way(model, features, expected):
    """One call, a call a row, and a sheet filled in pieces give the same bits."""
    np.testing.assert_array_equal(model.predict(features), expected)
    for row in range(len(features)):
        one = features.take(np.array([row]))
        np.testing.assert_array_equal(model.predict(one), expected[row : row + 1])
    sheet = Sheet(features, expected.shape[1])
    half = len(features) // 2
    model.predict_rows(sheet, range(half))
    for row in range(half, len(features)):
        model.predict_rows(sheet, (row,))
    np.testing.assert_array_equal(sheet.scores, expected)


@pytest.mark.parametrize("trees", [1, 5, 50])
def test_regression_equals_the_booster_to_the_last_bit(trees):
    tiny = models.lightgbm_regressor(trees=trees)
    features = rows()
    model = LIGHTGBM.load(tiny.data, Binding(signature()))
    assert_every_way(model, features, tiny.native.predict(features.matrix).reshape(-1, 1))


def test_missing_values_equal_the_booster():
    table = models.frame()
    table.loc[::3, "price"] = np.nan
    tiny = models.lightgbm_regressor(table=table)
    features = rows()
    features.matrix[::2, 0] = np.nan
    features.matrix[::5, 1] = np.nan
    model = LIGHTGBM.load(tiny.data, Binding(signature()))
    assert_every_way(model, features, tiny.native.predict(features.matrix).reshape(-1, 1))


def test_features_in_another_order_and_a_subset_are_bound_by_name():
    tiny = models.lightgbm_regressor(features=("week", "price"))
    features = rows(width=3)
    model = LIGHTGBM.load(tiny.data, Binding(signature(("price", "feat", "week"))))
    assert model.inputs == (2, 0)
    assert_every_way(model, features, tiny.native.predict(features.matrix[:, [2, 0]]).reshape(-1, 1))


def test_a_feature_the_signature_lacks_is_refused_by_name():
    tiny = models.lightgbm_regressor(features=("price", "rain"))
    with pytest.raises(SignatureMismatchError, match="'rain'") as refused:
        LIGHTGBM.load(tiny.data, Binding(signature()))
    assert refused.value.field == "rain"


def test_placeholder_names_bind_by_position():
    tiny = models.lightgbm_regressor(features=("Column_0", "Column_1"))
    features = rows()
    model = LIGHTGBM.load(tiny.data, Binding(signature()))
    assert_every_way(model, features, tiny.native.predict(features.matrix).reshape(-1, 1))


def test_names_with_spaces_are_the_signatures_names():
    tiny = models.lightgbm_regressor(features=("unit price", "feat"))
    assert b"feature_names=unit_price feat" in tiny.data
    model = LIGHTGBM.load(tiny.data, Binding(signature(("feat", "unit price"))))
    assert model.inputs == (1, 0)


def test_a_binary_model_answers_both_classes_and_its_label():
    tiny = models.lightgbm_binary()
    features = rows()
    p = tiny.native.predict(features.matrix)
    outputs = [
        {"name": "buys", "kind": "label", "classes": ["no", "yes"]},
        {"name": "p", "kind": "probabilities", "classes": ["no", "yes"]},
    ]
    model = LIGHTGBM.load(tiny.data, Binding(signature(outputs=outputs)))
    assert_every_way(model, features, np.column_stack([(p > 0.5).astype(float), 1.0 - p, p]))
    as_value = LIGHTGBM.load(tiny.data, Binding(signature()))
    assert_every_way(as_value, features, p.reshape(-1, 1))


def test_a_multiclass_model_answers_probabilities_over_the_groups_classes():
    tiny = models.lightgbm_multiclass()
    features = rows()
    native = tiny.native.predict(features.matrix)
    outputs = [{"name": "p", "kind": "probabilities", "classes": ["a", "b", "c"]}]
    model = LIGHTGBM.load(tiny.data, Binding(signature(outputs=outputs)))
    assert_every_way(model, features, native)
    other_order = LIGHTGBM.load(tiny.data, Binding(signature(outputs=outputs), ("c", "a", "b")))
    assert_every_way(other_order, features, native[:, [1, 2, 0]])


def test_a_class_the_model_never_saw_has_probability_zero():
    tiny = models.lightgbm_binary()
    features = rows()
    p = tiny.native.predict(features.matrix)
    outputs = [{"name": "p", "kind": "probabilities", "classes": ["a", "b", "c"]}]
    model = LIGHTGBM.load(tiny.data, Binding(signature(outputs=outputs), ("a", "c")))
    assert_every_way(model, features, np.column_stack([1.0 - p, np.zeros(50), p]))
    with pytest.raises(SignatureMismatchError, match="2 of the group's 3"):
        LIGHTGBM.load(tiny.data, Binding(signature(outputs=outputs)))


def test_a_regression_model_is_no_classifier():
    outputs = [{"name": "p", "kind": "probabilities", "classes": ["a", "b"]}]
    with pytest.raises(SignatureMismatchError, match="objective is 'regression'"):
        LIGHTGBM.load(models.lightgbm_regressor().data, Binding(signature(outputs=outputs)))


@pytest.mark.parametrize(
    ("dtype", "lists", "asked"),
    [
        ("string", [["red", "green"], ["blue", "green", "red"]], ["red", "green", "blue", "mauve", None]),
        ("int64", [[3, 1, 2], [2, 7]], [1, 2, 3, 7, None]),
        ("bool", [[False, True], [True, False]], [True, False, None, True, False]),
    ],
)
def test_each_model_encodes_categories_by_its_own_list(dtype, lists, asked):
    for number, categories in enumerate(lists):
        tiny = models.lightgbm_categorical(categories, seed=number)
        table = models.frame(len(asked), seed=9)
        table["colour"] = pd.Categorical(asked, categories=sorted({v for v in asked if v is not None}))
        matrix = np.column_stack([table[["price", "feat"]].to_numpy(), np.full(len(asked), np.nan)])
        if dtype == "string":
            features = Features(matrix, {2: asked})
        else:
            matrix[:, 2] = [np.nan if value is None else value for value in asked]
            features = Features(matrix)
        model = LIGHTGBM.load(tiny.data, Binding(signature(("price", "feat", "colour"), dtypes={"colour": dtype})))
        assert_every_way(model, features, tiny.native.predict(table).reshape(-1, 1))


def test_integer_categories_beyond_a_float_are_told_apart():
    big = 2**60
    tiny = models.lightgbm_categorical([big, big + 1])
    exact = np.array([big, big + 1, big + 2])
    table = models.frame(3)
    table["colour"] = pd.Categorical(exact)
    matrix = np.column_stack([table[["price", "feat"]].to_numpy(), exact.astype(float)])
    model = LIGHTGBM.load(tiny.data, Binding(signature(("price", "feat", "colour"), dtypes={"colour": "int64"})))
    expected = tiny.native.predict(table).reshape(-1, 1)
    assert_every_way(model, Features(matrix, exact={2: exact}), expected)


def test_text_that_the_model_does_not_encode_is_refused():
    tiny = models.lightgbm_regressor()
    with pytest.raises(SignatureMismatchError, match="'feat' is text"):
        LIGHTGBM.load(tiny.data, Binding(signature(dtypes={"feat": "string"})))
    coloured = models.lightgbm_categorical(["red", "green"])
    with pytest.raises(SignatureMismatchError, match="category lists"):
        LIGHTGBM.load(coloured.data, Binding(signature(("price", "feat", "colour"), dtypes={"colour": "int64"})))


def test_a_text_whose_trees_were_cut_is_refused():
    data = models.lightgbm_regressor().data
    read_text(data)
    end = data.rfind(b"\nend of trees")
    for cut in (100, 1000):
        with pytest.raises(ArtifactInvalidError, match="damaged"):
            LIGHTGBM.load(data[: end - cut] + data[end:], Binding(signature()))


def test_serving_starts_no_openmp_threads_and_loads_no_python_package():
    """In a process of its own: this one has trained models."""
    import subprocess

    program = (
        "import os, sys, numpy as np\n"
        "from registry.signature import Signature\n"
        "from workers.features import Features\n"
        "from workers.runtimes.lightgbm import LIGHTGBM\n"
        "from workers.runtimes.runtime import Binding\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "s = Signature.from_json({'inputs': [{'name': 'price'}, {'name': 'feat'}], 'outputs': [{'name': 'y'}]})\n"
        "model = LIGHTGBM.load(sys.stdin.buffer.read(), Binding(s))\n"
        "for rows in (1, 10, 10_000): model.predict(Features(np.zeros((rows, 2))))\n"
        "assert len(os.listdir('/proc/self/task')) == before\n"
        "assert 'lightgbm' not in sys.modules and 'pandas' not in sys.modules\n"
    )
    data = models.lightgbm_regressor(trees=50).data
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", program], input=data, check=True, env=env)


def test_memory_goes_with_the_last_reference():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    data = models.lightgbm_regressor(trees=100).data
    binding = Binding(signature())
    for _ in range(50):
        LIGHTGBM.load(data, binding)
    gc.collect()
    before = resident()
    for _ in range(300):
        LIGHTGBM.load(data, binding)
    assert resident() - before < 8 << 20


@pytest.mark.parametrize(
    "params",
    [
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
        {"boosting": "dart"},
        {"linear_tree": True},
        {"objective": "poisson"},
        {"objective": "quantile", "alpha": 0.9},
        {"objective": "cross_entropy"},
        {"min_data_in_leaf": 500},
        {"zero_as_missing": True},
    ],
    ids=lambda params: next(iter(params.values())),
)
def test_every_kind_of_booster_equals_native_to_the_last_bit(params):
    import lightgbm as lgb

    table = models.frame()
    answers = models.target(table)
    answers = (answers - answers.min()) / (answers.max() - answers.min())
    given = models.LIGHTGBM_PARAMS | {"objective": "regression"} | params
    booster = lgb.train(given, lgb.Dataset(table, answers), num_boost_round=6)
    features = rows()
    features.matrix[::7, 0] = 0.0
    model = LIGHTGBM.load(booster.model_to_string().encode(), Binding(signature()))
    assert_every_way(model, features, booster.predict(features.matrix).reshape(-1, 1))


def test_a_model_stopped_early_answers_from_its_best_iteration():
    import lightgbm as lgb

    table = models.frame()
    train = lgb.Dataset(table, models.target(table))
    valid = train.create_valid(models.frame(seed=1), models.target(models.frame(seed=1)))
    stop = lgb.early_stopping(2, verbose=False)
    booster = lgb.train(models.LIGHTGBM_PARAMS, train, num_boost_round=300, valid_sets=[valid], callbacks=[stop])
    assert 0 < booster.best_iteration < 300
    features = rows()
    model = LIGHTGBM.load(booster.model_to_string().encode(), Binding(signature()))
    assert_every_way(model, features, booster.predict(features.matrix).reshape(-1, 1))


def test_fitted_scikit_learn_estimators_of_lightgbm_equal_their_own_probabilities():
    import lightgbm as lgb

    table = models.frame()
    labels = models.labels(table, ("lo", "mid", "hi"))
    native = lgb.LGBMClassifier(n_estimators=5, verbosity=-1, num_threads=1).fit(table, labels)
    outputs = [{"name": "p", "kind": "probabilities", "classes": ["lo", "mid", "hi"]}]
    classes = tuple(native.classes_.tolist())
    model = LIGHTGBM.load(native.booster_.model_to_string().encode(), Binding(signature(outputs=outputs), classes))
    asked = models.frame(30, seed=8)
    expected = native.predict_proba(asked)[:, [classes.index(name) for name in ("lo", "mid", "hi")]]
    assert_every_way(model, Features(asked.to_numpy().copy()), expected)
