"""Whatever its features' names, order, categories and classes, a served model answers as its own library does.

The library is fed a pandas frame as in a notebook; the house is asked the same rows by single predict, JSON bulk and
Arrow bulk. LightGBM agrees to the last bit, the others to their arithmetic.
"""

import lightgbm as lgb
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.support import models
from tests.support.agreement import Partition, agree, bulks, live, singles
from tests.support.house import running_house
from tests.support.tables import made_live

CLASSES = ["lo", "mid", "hi"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_house(tmp_path_factory.mktemp("binding")) as house:
        yield house


# Numbers: features by name, in any order, as many as the model likes

PLAIN = pd.DataFrame({"price": [0.5, 3.25, 9.0, 1e-3, 7.125], "feat": [9.5, 0.0, 1.75, 4.0, 3.3]})


def lightgbm(tiny):
    """What LightGBM answers to the columns the model names."""
    return lambda frame: tiny.native.predict(frame[tiny.native.feature_name()])


def estimator(tiny):
    return lambda frame: tiny.native.predict(frame[list(tiny.native.feature_names_in_)])


def graph(tiny, names=None):
    """What onnxruntime answers: one tensor of the named columns, or one of each of the graph's inputs."""
    session = onnxruntime.InferenceSession(tiny.data, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64}

    def run(frame):
        if names:
            entry = session.get_inputs()[0]
            feed = {entry.name: frame[names].to_numpy(kinds[entry.type])}
        else:
            feed = {entry.name: frame[[entry.name]].to_numpy(kinds[entry.type]) for entry in session.get_inputs()}
        return session.run(None, feed)

    return run


def test_features_are_bound_by_name_in_any_order_and_any_subset(house):
    made = {}
    for store, features in (("same", ("price", "feat")), ("reversed", ("feat", "price")), ("subset", ("feat",))):
        booster, ridge = models.lightgbm_regressor(1, features=features), models.ridge(2, features=features)
        summed = models.onnx_sum(features)
        made |= {
            f"lightgbm {store}": Partition(booster, lightgbm(booster)(PLAIN)),
            f"sklearn {store}": Partition(ridge, estimator(ridge)(PLAIN)),
            f"onnx {store}": Partition(summed, graph(summed)(PLAIN)[0].ravel()),
        }
    unnamed, exported = models.ridge(3, named=False), models.onnx_ridge(4)
    made["sklearn unnamed"] = Partition(unnamed, unnamed.native.predict(PLAIN.to_numpy()))
    made["onnx unnamed"] = Partition(exported, graph(exported, ["price", "feat"])(PLAIN)[0].ravel())
    backwards = models.onnx_matrix_sum(1, metadata={"feature_names": '["feat"]'})
    made["onnx named by metadata"] = Partition(backwards, graph(backwards, ["feat"])(PLAIN)[0].ravel())
    numbered = models.lightgbm_regressor(5, features=("Column_0", "Column_1"))
    made["lightgbm placeholders"] = Partition(numbered, numbered.native.predict(PLAIN))
    group = live(house, "plain", made, [{"name": "price"}, {"name": "feat"}], [{"name": "sales"}])
    agree(house, group, made, PLAIN)


# Missing values and categories

COLOURS = ["red", "green", "blue", "pink"]
HOLED = pd.DataFrame(
    {
        "price": [1.5, np.nan, 3.5, 9.0, np.nan, 4.0],
        "feat": [2.0, 7.5, np.nan, 1.0, np.nan, 8.0],
        "colour": pd.Categorical(["red", "green", None, "pink", "blue", "red"], categories=COLOURS),
        "rooms": [1.0, 3.0, 9.0, np.nan, 2.0, 3.0],
    }
)
HOLED_INPUTS = [
    {"name": "price", "nullable": True},
    {"name": "feat", "nullable": True},
    {"name": "colour", "dtype": "string", "nullable": True},
    {"name": "rooms", "dtype": "float64", "nullable": True},
]


def several_categories(colours, rooms, seed):
    """A booster with two categorical columns, neither in the signature's order."""
    table = models.frame(seed=seed, features=("feat", "price"))
    random = np.random.default_rng(seed)
    for name, categories in (("rooms", rooms), ("colour", colours)):
        codes = random.integers(0, len(categories), len(table))
        table.insert(1, name, pd.Categorical.from_codes(codes, categories=categories))
    return models.lightgbm_regressor(seed, table=table)


def test_missing_values_and_each_partitions_own_categories_answer_as_pandas_does(house):
    boosters = {
        "colours": models.lightgbm_categorical(["red", "green", "blue"], 1),
        "other colours": models.lightgbm_categorical(["blue", "red"], 2),
        "colours in another order": models.lightgbm_categorical(
            ["pink", "blue", "green", "red"], 3, features=("feat",)
        ),
        "rooms": models.lightgbm_categorical([1, 2, 3], 4, name="rooms"),
        "other rooms": models.lightgbm_categorical([9, 3], 5, name="rooms", features=("price",)),
        "both": several_categories(["green", "red"], [3, 1, 2], 6),
        "none": models.lightgbm_regressor(7, features=("feat", "price")),
    }
    made = {store: Partition(tiny, native_categories(tiny.native)) for store, tiny in boosters.items()}
    table = models.frame(seed=8)
    table[table > 9] = np.nan
    boosted = HistGradientBoostingRegressor(max_iter=5).fit(table, models.target(table))
    made["hist"] = Partition(models.sklearn_model(boosted), boosted.predict(HOLED[["price", "feat"]]))
    made["pipeline"] = piped = pipeline(("colour", "feat"))
    assert np.isfinite(piped.expected).all()
    group = live(house, "holed", made, HOLED_INPUTS, [{"name": "sales"}])
    agree(house, group, made, HOLED)


def native_categories(booster):
    """What LightGBM answers to pandas categoricals, which it brings to the categories it was trained on."""
    return booster.predict(HOLED.astype({"rooms": "category"})[booster.feature_name()])


def pipeline(columns):
    """Imputer and encoder on text, imputer on a number."""
    table = models.frame(seed=9, features=("feat",))
    table["colour"] = np.random.default_rng(9).choice(COLOURS[:3], len(table))
    table = table[list(columns)]
    text = Pipeline(
        [
            ("impute", SimpleImputer(strategy="constant", fill_value="none")),
            ("encode", OneHotEncoder(handle_unknown="ignore")),
        ]
    )
    parts = ColumnTransformer([("text", text, ["colour"]), ("number", SimpleImputer(), ["feat"])])
    model = Pipeline([("parts", parts), ("ridge", Ridge())]).fit(table, models.target(table))
    return Partition(models.sklearn_model(model), model.predict(HOLED[list(columns)].astype({"colour": object})))


# Classes


def classifiers():
    """Classifiers of three libraries, each with all classes and without one."""
    made = {}
    some = {"all": CLASSES, "other order": ["hi", "lo", "mid"], "none in the middle": ["lo", "hi"]}
    for seed, (what, classes) in enumerate(some.items()):
        many = len(classes) > 2
        booster = models.lightgbm_multiclass(seed) if many else models.lightgbm_binary(seed)
        raw = booster.native.predict(PLAIN)
        made[f"lightgbm {what}"] = booster, classes, raw if many else np.column_stack([1.0 - raw, raw]), classes
        for name, tiny in (
            ("logistic", models.logistic(classes, seed)),
            ("forest", models.forest_classifier(classes, seed)),
            ("hist", models.hist_boosting_classifier(classes, seed)),
        ):
            native = tiny.native
            made[f"sklearn {name} {what}"] = tiny, native.classes_.tolist(), native.predict_proba(PLAIN), None
        exported = models.onnx_logistic(classes, seed, zipmap=what == "all")
        plain = models.onnx_logistic(classes, seed)
        told = graph(plain, ["price", "feat"])(PLAIN)[1]
        made[f"onnx {what}"] = exported, exported.native.classes_.tolist(), told, None
    return made


def scattered(classes, probabilities, group=CLASSES):
    """Probabilities over the group's classes, 0 for those the model lacks."""
    out = np.zeros((len(probabilities), len(group)))
    for column, label in enumerate(classes):
        out[:, group.index(label)] = probabilities[:, column]
    return out.tolist()


@pytest.fixture(scope="module")
def classified():
    return classifiers()


INPUTS = [{"name": "price"}, {"name": "feat"}]


def test_probabilities_stand_at_the_groups_classes_whatever_classes_a_partition_has(house, classified):
    made = {
        store: Partition(tiny, scattered(classes, probabilities), said)
        for store, (tiny, classes, probabilities, said) in classified.items()
    }
    group = live(house, "risk", made, INPUTS, [{"name": "risk", "kind": "probabilities", "classes": CLASSES}])
    agree(house, group, made, PLAIN)


def test_labels_and_probabilities_are_answered_together_by_name(house, classified):
    made = {}
    for store, (tiny, classes, probabilities, said) in classified.items():
        labels = [classes[at] for at in np.asarray(probabilities).argmax(axis=1)]
        if tiny.runtime == "sklearn":
            assert labels == tiny.native.predict(PLAIN).tolist()
        rows = zip(labels, scattered(classes, probabilities), strict=True)
        made[store] = Partition(tiny, [{"class": label, "p": row} for label, row in rows], said)
    outputs = [
        {"name": "class", "kind": "label", "classes": CLASSES},
        {"name": "p", "kind": "probabilities", "classes": CLASSES},
    ]
    agree(house, live(house, "classes", made, INPUTS, outputs), made, PLAIN)


def test_a_binary_booster_needs_no_names_for_two_classes(house):
    booster = models.lightgbm_binary(3)
    raw = booster.native.predict(PLAIN)
    made = {"booster": Partition(booster, np.column_stack([1.0 - raw, raw]).tolist())}
    forest = models.forest_classifier((0, 1), 3)
    made["forest"] = Partition(forest, forest.native.predict_proba(PLAIN).tolist())
    group = live(house, "bought", made, INPUTS, [{"name": "p", "kind": "probabilities", "classes": [0, 1]}])
    agree(house, group, made, PLAIN)


# Several outputs


def two_outputs():
    """A graph whose outputs are named, in another order than the signature's."""
    nodes = [
        helper.make_node("Add", ["price", "feat"], ["high"]),
        helper.make_node("Sub", ["price", "feat"], ["low"]),
    ]
    kind = TensorProto.DOUBLE
    described = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info(name, kind, [None, 1]) for name in ("feat", "price")],
        [helper.make_tensor_value_info(name, kind, [None, 1]) for name in ("high", "low")],
    )
    model = helper.make_model(described, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return models.TinyModel("onnx", None, model.SerializeToString())


def two_columns():
    table = models.frame(seed=1)
    wanted = np.column_stack([models.target(table, 1), models.target(table, 2)])
    return models.sklearn_model(LinearRegression().fit(table, wanted))


def test_several_outputs_are_answered_by_name(house):
    both, summed = two_columns(), two_outputs()
    low, high = both.native.predict(PLAIN).T
    made = {
        "columns": Partition(both, [{"low": a, "high": b} for a, b in zip(low, high, strict=True)]),
        "names": Partition(
            summed, [{"low": p - f, "high": p + f} for p, f in zip(PLAIN["price"], PLAIN["feat"], strict=True)]
        ),
    }
    agree(house, live(house, "bounds", made, INPUTS, [{"name": "low"}, {"name": "high"}]), made, PLAIN)


def test_a_wide_output_is_a_list(house):
    both = two_columns()
    made = {"wide": Partition(both, both.native.predict(PLAIN).tolist())}
    agree(house, live(house, "wide", made, INPUTS, [{"name": "bounds", "width": 2}]), made, PLAIN)


# Inputs fed from the key


def test_key_fields_feed_the_model_they_lead_to_and_its_fallbacks(house):
    inputs = [
        {"name": "price"},
        {"name": "store_number", "dtype": "int64", "from_key": "store"},
        {"name": "brand_name", "dtype": "string", "from_key": "brand"},
    ]
    signature = {"inputs": inputs, "outputs": [{"name": "sales"}]}
    group = house.create("fed", signature=signature, fallback=[["brand"]])
    features = ("store_number", "price")
    trained = {
        ("7", "a"): models.lightgbm_categorical(["b", "a"], 1, name="brand_name", features=features),
        ("7", "c"): models.lightgbm_categorical(["b", "a"], 2, name="brand_name", features=features),
        (None, "b"): models.lightgbm_categorical(["a", "b"], 3, name="brand_name", features=features),
    }
    made_live(
        house, group, [{"store": store, "brand": brand, "model": tiny.data} for (store, brand), tiny in trained.items()]
    )
    frame = PLAIN[["price"]]
    asked = {("7", "a"): ("7", "a"), ("7", "c"): ("7", "c"), ("3", "b"): (None, "b"), ("-12", "b"): (None, "b")}
    keys = [{"store": store, "brand": brand} for store, brand in asked]
    forms = bulks(house, group, keys, frame)
    for place, ((store, brand), answering) in enumerate(asked.items()):
        booster: lgb.Booster = trained[answering].native
        native = frame.assign(store_number=int(store))
        native["brand_name"] = pd.Categorical([brand] * len(frame))
        expected = booster.predict(native[booster.feature_name()]).tolist()
        assert singles(house, group, keys[place], frame) == [expected, expected, expected[:1]]
        assert [form[place] for form in forms] == [expected] * 3


def test_a_key_that_cannot_feed_its_input_is_an_error_of_its_row(house):
    inputs = [{"name": "price"}, {"name": "store_number", "dtype": "int64", "from_key": "store"}]
    signature = {"inputs": inputs, "outputs": [{"name": "sales"}]}
    group = house.create("strict", signature=signature, fallback=[["brand"]])
    made_live(house, group, [{"brand": "a", "model": models.lightgbm_regressor(features=("price",)).data}])
    stores = ["seven", "1_0", " 1", "1.0", "9" * 19, "0x1", "\N{ARABIC-INDIC DIGIT ONE}", "+1", "1e3"]
    for store in stores:
        refused = house.predict(group, {"store": store, "brand": "a"})
        assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (
            400,
            "feature_type",
            "store_number",
        )
    rows = [{"store": store, "brand": "a", "price": 1.0} for store in [*stores, "007"]]
    told = house.client.post(f"{group}/predict/bulk", json={"rows": rows}).json()
    assert [(error["row"], error["code"]) for error in told["errors"]] == [
        (row, "feature_type") for row in range(len(stores))
    ]
    assert told["predictions"][-1] is not None
