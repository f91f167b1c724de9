"""Training the demo's fleets: one small model a partition, one a brand and one of all, for each of three runtimes.

Every kind takes the same named inputs and uses what it likes: LightGBM learns the promotion as a pandas category,
the Ridge pipeline encodes it, and the ONNX export leaves it out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import lightgbm as lgb
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import skops.io
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from manymodels.demo.history import FEATURES, PROMOTIONS

Native = Callable[[pd.DataFrame], NDArray[np.float64]]

SIGNATURE: Final[dict[str, Any]] = {
    "inputs": [
        {"name": "price", "dtype": "float64"},
        {"name": "promotion", "dtype": "string", "default": "none", "categories": list(PROMOTIONS)},
        {"name": "week", "dtype": "int64"},
        {"name": "trend", "dtype": "int64"},
    ],
    "outputs": [{"name": "units"}],
}
KEY: Final = ("region", "store", "brand")
FALLBACK: Final = (("brand",), ())
NUMBERS: Final = ["price", "week", "trend"]


@dataclass(frozen=True, slots=True)
class Trained:
    """One fitted model.

    Attributes:
        key: its key fields; fewer than all for a fallback model.
        artifact: its bytes.
        error: root mean square error on its own training rows.
        rows: how many rows it was trained on.
        native: what its own library answers for a frame of the features.
    """

    key: dict[str, str]
    artifact: bytes
    error: float
    rows: int
    native: Native


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to train: the runtime that serves it, and from rows (features and units) to bytes and native answers."""

    runtime: str
    group: str
    fit: Callable[[pd.DataFrame], tuple[bytes, Native]]
    exact: bool  # whether served answers equal native ones to the last bit


def train_fleet(kind: Kind, history: pd.DataFrame) -> Iterator[Trained]:
    """The models of one fleet: every partition's, every brand's, and the whole group's at last."""
    for fields in (list(KEY), ["brand"]):
        for values, rows in history.groupby(fields, sort=False):
            texts = cast("tuple[str, ...]", values)
            yield _train(kind, dict(zip(fields, texts, strict=True)), rows)
    yield _train(kind, {}, history)


def fleet_size(history: pd.DataFrame) -> int:
    """How many models `train_fleet` makes."""
    return int(history[list(KEY)].drop_duplicates().shape[0] + history["brand"].nunique() + 1)


def _train(kind: Kind, key: dict[str, str], rows: pd.DataFrame) -> Trained:
    artifact, native = kind.fit(rows)
    missed = native(rows[list(FEATURES)]) - rows["units"].to_numpy()
    return Trained(key, artifact, float(np.sqrt(np.mean(missed**2))), len(rows), native)


def fit_lightgbm(rows: pd.DataFrame) -> tuple[bytes, Native]:
    """Gradient boosted trees; the promotion is a pandas category with the values that these rows know."""
    features = rows[list(FEATURES)].astype({"promotion": "category"})
    settings = {"verbosity": -1, "num_threads": 1, "num_leaves": 15, "min_data_in_leaf": 8, "learning_rate": 0.1}
    booster = lgb.train(settings, lgb.Dataset(features, rows["units"].to_numpy()), num_boost_round=40)

    def native(frame: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(booster.predict(frame.astype({"promotion": "category"}), num_threads=1))

    return booster.model_to_string().encode(), native


def fit_ridge(rows: pd.DataFrame) -> tuple[bytes, Native]:
    """Ridge regression behind a scaler and an encoder."""
    columns = ColumnTransformer(
        [("promotion", OneHotEncoder(handle_unknown="ignore"), ["promotion"]), ("numbers", StandardScaler(), NUMBERS)]
    )
    model = Pipeline([("columns", columns), ("ridge", Ridge())]).fit(rows[list(FEATURES)], rows["units"])
    return skops.io.dumps(model), model.predict


def fit_onnx(rows: pd.DataFrame) -> tuple[bytes, Native]:
    """Gradient boosting by scikit-learn, exported to ONNX with one named input a feature."""
    trees = GradientBoostingRegressor(n_estimators=12, max_depth=3, learning_rate=0.25, random_state=0)
    trees.fit(rows[NUMBERS].to_numpy(np.float32), rows["units"])
    model = to_onnx(trees, initial_types=[("features", FloatTensorType([None, len(NUMBERS)]))], target_opset=17)
    data = _with_named_inputs(model).SerializeToString()

    def native(frame: pd.DataFrame) -> NDArray[np.float64]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        feed = {name: frame[[name]].to_numpy(np.float32) for name in NUMBERS}
        return np.asarray(session.run(None, feed)[0], dtype=np.float64).reshape(-1)

    return data, native


def _with_named_inputs(model: Any) -> Any:
    """The model with one input a feature, joined to the tensor that it had as its only input."""
    graph = model.graph
    graph.node.insert(0, onnx.helper.make_node("Concat", NUMBERS, ["features"], axis=1))
    del graph.input[:]
    graph.input.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 1]) for name in NUMBERS)
    onnx.checker.check_model(model)
    return model


KINDS: Final = (  # in the order of work: what takes long to import comes first
    Kind("sklearn", "retail-ridge", fit_ridge, exact=False),
    Kind("lightgbm", "retail-lightgbm", fit_lightgbm, exact=True),
    Kind("onnx", "retail-onnx", fit_onnx, exact=False),
)
