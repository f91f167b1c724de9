"""Tiny real models of all three runtimes, so that no test needs a mock of one.

Every function trains on a few hundred seeded rows in milliseconds and answers a `TinyModel`: the native object to
compare with, and the artifact bytes as a user would register them. Features are `price` and `feat` unless named.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
import onnx
import pandas as pd
import skops.io
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

FEATURES = ("price", "feat")
LIGHTGBM_PARAMS = {"verbosity": -1, "num_threads": 1, "num_leaves": 7, "min_data_in_leaf": 5, "seed": 1}


class TinyModel(NamedTuple):
    """A fitted native model and the bytes a user would register for it."""

    runtime: str
    native: Any
    data: bytes


def frame(rows: int = 200, seed: int = 0, features: Sequence[str] = FEATURES) -> pd.DataFrame:
    """Numeric features, uniform in 0..10."""
    values = np.random.default_rng(seed).uniform(0, 10, (rows, len(features)))
    return pd.DataFrame(values, columns=list(features))


def target(table: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """A noisy sum of the numeric columns, with weights that depend on the seed."""
    noise = np.random.default_rng(seed + 1)
    numbers = table.select_dtypes("number").to_numpy()
    return np.nan_to_num(numbers) @ noise.uniform(0.5, 2, numbers.shape[1]) + noise.normal(0, 0.1, len(table))


def labels(table: pd.DataFrame, classes: Sequence[Any], seed: int = 0) -> np.ndarray:
    """One of `classes` a row, by quantile of the target."""
    rank = pd.Series(target(table, seed)).rank(pct=True).to_numpy()
    return np.asarray(classes)[np.minimum((rank * len(classes)).astype(int), len(classes) - 1)]


def lightgbm_regressor(
    seed: int = 0, *, trees: int = 5, features: Sequence[str] = FEATURES, table: pd.DataFrame | None = None
) -> TinyModel:
    """A LightGBM regression Booster."""
    table = frame(seed=seed, features=features) if table is None else table
    return _booster({"objective": "regression"}, table, target(table, seed), trees)


def lightgbm_binary(seed: int = 0, *, trees: int = 5, features: Sequence[str] = FEATURES) -> TinyModel:
    """A LightGBM binary Booster; its native prediction is the probability of class 1."""
    table = frame(seed=seed, features=features)
    return _booster({"objective": "binary"}, table, labels(table, (0, 1), seed), trees)


def lightgbm_multiclass(
    seed: int = 0, *, classes: int = 3, trees: int = 5, features: Sequence[str] = FEATURES
) -> TinyModel:
    """A LightGBM multiclass Booster over the class indexes 0..classes-1."""
    table = frame(seed=seed, features=features)
    wanted = {"objective": "multiclass", "num_class": classes}
    return _booster(wanted, table, labels(table, range(classes), seed), trees)


def lightgbm_categorical(
    categories: Sequence[Any],
    seed: int = 0,
    *,
    name: str = "colour",
    trees: int = 5,
    features: Sequence[str] = FEATURES,
) -> TinyModel:
    """A LightGBM regression Booster on numeric features and one pandas categorical column, the last."""
    table = frame(seed=seed, features=features)
    codes = np.random.default_rng(seed + 2).integers(0, len(categories), len(table))
    table[name] = pd.Categorical.from_codes(codes, categories=list(categories))
    return _booster({"objective": "regression"}, table, target(table, seed) + 5.0 * codes, trees)


def ridge(seed: int = 0, *, features: Sequence[str] = FEATURES, named: bool = True) -> TinyModel:
    """A scikit-learn Ridge, fitted on a DataFrame or (not `named`) on its bare matrix."""
    table = frame(seed=seed, features=features)
    return sklearn_model(Ridge().fit(table if named else table.to_numpy(), target(table, seed)))


def logistic(classes: Sequence[Any] = ("lo", "mid", "hi"), seed: int = 0) -> TinyModel:
    """A scikit-learn LogisticRegression over `classes`."""
    table = frame(seed=seed)
    return sklearn_model(LogisticRegression(max_iter=500).fit(table, labels(table, classes, seed)))


def forest(seed: int = 0, *, trees: int = 4) -> TinyModel:
    """A scikit-learn RandomForestRegressor."""
    table = frame(seed=seed)
    model = RandomForestRegressor(trees, max_depth=4, random_state=seed)
    return sklearn_model(model.fit(table, target(table, seed)))


def forest_classifier(classes: Sequence[Any] = ("lo", "hi"), seed: int = 0) -> TinyModel:
    """A scikit-learn RandomForestClassifier over `classes`."""
    table = frame(seed=seed)
    model = RandomForestClassifier(4, max_depth=4, random_state=seed)
    return sklearn_model(model.fit(table, labels(table, classes, seed)))


def hist_boosting(seed: int = 0) -> TinyModel:
    """A scikit-learn HistGradientBoostingRegressor, which takes missing values."""
    table = frame(seed=seed)
    return sklearn_model(HistGradientBoostingRegressor(max_iter=5, random_state=seed).fit(table, target(table, seed)))


def hist_boosting_classifier(classes: Sequence[Any] = ("lo", "hi"), seed: int = 0) -> TinyModel:
    """A scikit-learn HistGradientBoostingClassifier over `classes`."""
    table = frame(seed=seed)
    model = HistGradientBoostingClassifier(max_iter=5, random_state=seed)
    return sklearn_model(model.fit(table, labels(table, classes, seed)))


def pipeline(seed: int = 0, *, brands: Sequence[str] = ("dominicks", "tropicana")) -> TinyModel:
    """Imputer and scaler on the numeric features, one-hot encoder on the text feature `brand`, then Ridge."""
    table = frame(seed=seed)
    table["brand"] = np.random.default_rng(seed).choice(list(brands), len(table))
    numeric = Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())])
    columns = ColumnTransformer(
        [("numeric", numeric, list(FEATURES)), ("text", OneHotEncoder(handle_unknown="ignore"), ["brand"])]
    )
    return sklearn_model(Pipeline([("columns", columns), ("ridge", Ridge())]).fit(table, target(table, seed)))


def sklearn_model(native: Any) -> TinyModel:
    """Any fitted scikit-learn estimator, saved by skops."""
    return TinyModel("sklearn", native, skops.io.dumps(native))


def onnx_ridge(seed: int = 0, *, features: Sequence[str] = FEATURES) -> TinyModel:
    """A Ridge exported by skl2onnx with one float tensor input; `native` is the Ridge itself."""
    return onnx_export(ridge(seed, features=features).native, len(features))


def onnx_logistic(classes: Sequence[Any] = ("lo", "mid", "hi"), seed: int = 0, *, zipmap: bool = False) -> TinyModel:
    """A LogisticRegression exported by skl2onnx: outputs label and probabilities (maps with `zipmap`)."""
    return onnx_export(logistic(classes, seed).native, len(FEATURES), zipmap=zipmap)


def onnx_export(native: Any, width: int, *, zipmap: bool = False) -> TinyModel:
    """Any scikit-learn estimator on `width` numeric features, exported by skl2onnx."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    shape = [("X", FloatTensorType([None, width]))]
    options = {id(native): {"zipmap": zipmap}} if hasattr(native, "classes_") else None
    proto = skl2onnx.convert_sklearn(native, initial_types=shape, options=options, target_opset=15)
    return TinyModel("onnx", native, proto.SerializeToString())


def onnx_sum(
    inputs: Sequence[str] = FEATURES, *, dtype: int = TensorProto.DOUBLE, metadata: dict[str, str] | None = None
) -> TinyModel:
    """A graph with one (n, 1) input a name, that answers their sum as a double (n, 1); `native` is the ModelProto."""
    casts = [helper.make_node("Cast", [name], [f"{name}_double"], to=TensorProto.DOUBLE) for name in inputs]
    total = helper.make_node("Sum", [f"{name}_double" for name in inputs], ["total"])
    return _graph(
        [*casts, total],
        [helper.make_tensor_value_info(name, dtype, [None, 1]) for name in inputs],
        [helper.make_tensor_value_info("total", TensorProto.DOUBLE, [None, 1])],
        metadata,
    )


def onnx_matrix_sum(
    width: int = 2, *, dtype: int = TensorProto.FLOAT, metadata: dict[str, str] | None = None
) -> TinyModel:
    """A graph with one (n, width) input `X` that answers the sum of each row, of the same type, (n, 1)."""
    axes = onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")
    return _graph(
        [helper.make_node("ReduceSum", ["X", "axes"], ["total"], keepdims=1)],
        [helper.make_tensor_value_info("X", dtype, [None, width])],
        [helper.make_tensor_value_info("total", dtype, [None, 1])],
        metadata,
        [axes],
    )


def onnx_external_data(location: str = "../../etc/passwd") -> bytes:
    """A model whose weights lie in a file of their own: no server may load it."""
    weights = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[2, 1])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return _graph(
        [helper.make_node("MatMul", ["X", "weights"], ["total"])],
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, [None, 1])],
        None,
        [weights],
    ).data


def _graph(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    metadata: dict[str, str] | None,
    weights: Sequence[Any] = (),
) -> TinyModel:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializer=list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    return TinyModel("onnx", model, model.SerializeToString())


def _booster(params: dict[str, Any], table: pd.DataFrame, answers: np.ndarray, trees: int) -> TinyModel:
    booster = lgb.train(LIGHTGBM_PARAMS | params, lgb.Dataset(table, answers), num_boost_round=trees)
    return TinyModel("lightgbm", booster, booster.model_to_string().encode())
