"""Real data: 83 stores x 3 brands, one LightGBM, one Ridge and one ONNX model each; every answer equals the native one."""

import os
from pathlib import Path
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge

from manymodels import Client
from manymodels.errors import ApiError
from tests.support.served import served

DATA = Path(os.environ.get("MANYMODELS_TEST_DATA", "oj.csv-is-absent"))
FEATURES = ["price", "feat", "week"]
SIGNATURE = {
    "inputs": [{"name": "price"}, {"name": "feat", "dtype": "int64", "default": 0}, {"name": "week"}],
    "outputs": [{"name": "sales"}],
}
RUNTIMES = ["lightgbm", "sklearn", "onnx"]
# Left out of every fleet, to be answered by a fallback.
WITHOUT_MODEL, WITHOUT_BRAND = ("2", "tropicana"), ("2", "an unheard brand")

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="MANYMODELS_TEST_DATA names no oj.csv")


class Fitted(NamedTuple):
    data: bytes
    predict: object


def fit_lightgbm(table):
    params = {"objective": "regression", "verbosity": -1, "num_leaves": 7, "min_data_in_leaf": 5, "num_threads": 1}
    booster = lgb.train(params, lgb.Dataset(table[FEATURES], table["sales"]), 20)
    return Fitted(booster.model_to_string().encode(), lambda rows: booster.predict(rows, num_threads=1))


def fit_sklearn(table):
    model = Ridge().fit(table[FEATURES], table["sales"])
    return Fitted(skops.io.dumps(model), model.predict)


def fit_onnx(table):
    model = GradientBoostingRegressor(n_estimators=5, max_depth=3, random_state=1)
    model.fit(table[FEATURES].to_numpy(np.float32), table["sales"])
    data = to_onnx(model, np.zeros((1, len(FEATURES)), np.float32), target_opset=17).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return Fitted(data, lambda rows: session.run(None, {"X": rows.to_numpy(np.float32)})[0][:, 0].astype(float))


FIT = {"lightgbm": fit_lightgbm, "sklearn": fit_sklearn, "onnx": fit_onnx}


@pytest.fixture(scope="module")
def sales():
    table = pd.read_csv(DATA, dtype={"store": str, "brand": str})
    table["week"] = table["week"].astype(float)
    return table


@pytest.fixture(scope="module")
def fleets(sales):
    """Per runtime: key -> fitted model; the partial keys are the brands' and the whole group's."""
    parts = {
        (store, brand): part
        for (store, brand), part in sales.groupby(["store", "brand"])
        if (store, brand) != WITHOUT_MODEL
    }
    parts |= {(None, str(brand)): part for brand, part in sales.groupby("brand")}
    parts[None, None] = sales
    return {runtime: {key: FIT[runtime](part) for key, part in parts.items()} for runtime in RUNTIMES}


@pytest.fixture(scope="module")
def house(tmp_path_factory, fleets):
    """A server with the three fleets live."""
    root = tmp_path_factory.mktemp("oj")
    with served(root / "home") as running, Client(running.url) as client:
        for runtime, fleet in fleets.items():
            group = f"oj-{runtime}"
            client.create_group(group, key=["store", "brand"], signature=SIGNATURE, fallback=[["brand"], []])
            table = pa.table(
                {
                    "store": pa.array([store for store, _ in fleet], pa.string()),
                    "brand": pa.array([brand for _, brand in fleet], pa.string()),
                    "model": pa.array([fitted.data for fitted in fleet.values()], pa.binary()),
                    "runtime": pa.array([runtime] * len(fleet), pa.string()),
                }
            )
            path = root / f"{runtime}.parquet"
            pq.write_table(table, path)
            client.import_fleet(group, path)
        yield client


def rows_of(sales, key):
    """Three real rows of a partition."""
    part = sales[(sales["store"] == key[0]) & (sales["brand"] == key[1])]
    return part[FEATURES].iloc[[0, len(part) // 2, -1]].reset_index(drop=True)


def expect(runtime, fitted, rows):
    return np.asarray(fitted.predict(rows), dtype=float)


def agree(runtime, served_values, native):
    if runtime == "lightgbm":
        np.testing.assert_array_equal(np.asarray(served_values, dtype=float), native)
    else:
        np.testing.assert_allclose(np.asarray(served_values, dtype=float), native, rtol=1e-6)


def instances(rows):
    return [{"price": float(r.price), "feat": int(r.feat), "week": float(r.week)} for r in rows.itertuples()]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_single_predicts_equal_the_native_library(house, fleets, sales, runtime):
    for key, fitted in fleets[runtime].items():
        if key[0] is None:
            continue
        rows = rows_of(sales, key)
        answer = house.predict(f"oj-{runtime}", {"store": key[0], "brand": key[1]}, instances(rows))
        agree(runtime, answer.predictions, expect(runtime, fitted, rows))
        assert (answer.model.fallback_level, answer.model.version) == (0, 1)


@pytest.mark.parametrize("form", ["columns", "rows", "arrow"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bulk_predicts_equal_the_native_library(house, fleets, sales, runtime, form):
    keys = [key for key in fleets[runtime] if key[0] is not None]
    rows = [rows_of(sales, key) for key in keys]
    native = np.concatenate([expect(runtime, fleets[runtime][key], part) for key, part in zip(keys, rows, strict=True)])
    table = pd.concat(part.assign(store=key[0], brand=key[1]) for key, part in zip(keys, rows, strict=True))
    if form == "arrow":
        data = pa.Table.from_pandas(table, preserve_index=False)
    elif form == "columns":
        data = {"columns": list(table.columns), "data": table.astype(object).to_numpy().tolist()}
    else:
        data = table.to_dict("records")
    answer = house.predict_bulk(f"oj-{runtime}", data)
    assert not answer.errors
    assert set(answer.fallback_level) == {0}
    agree(runtime, answer.predictions, native)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_key_without_a_model_answers_from_its_brand_then_from_the_whole_group(house, fleets, sales, runtime):
    rows = rows_of(sales, ("5", "tropicana"))
    for key, level, fallback in ((WITHOUT_MODEL, 1, (None, "tropicana")), (WITHOUT_BRAND, 2, (None, None))):
        named = {"store": key[0], "brand": key[1]}
        answer = house.predict(f"oj-{runtime}", named, instances(rows))
        agree(runtime, answer.predictions, expect(runtime, fleets[runtime][fallback], rows))
        assert answer.model.fallback_level == level
        with pytest.raises(ApiError) as refused:
            house.predict(f"oj-{runtime}", named, instances(rows), max_fallback_level=level - 1)
        assert (refused.value.status, refused.value.code) == (404, "partition_not_found")
