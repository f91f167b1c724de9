"""Fitted models of each library become bytes that their library reads back to the same answers."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from manymodels.errors import UnsupportedModelError
from manymodels.fitted import fitted, labels, meta
from tests.support import models

NOW = datetime(2026, 11, 20, 6, tzinfo=UTC)
X = models.frame()
PARAMS = {"verbosity": -1, "num_threads": 1, "n_estimators": 5, "num_leaves": 7}


def test_a_booster_becomes_text_with_equal_predictions():
    native = models.lightgbm_regressor().native
    prepared = fitted(native)
    again = lgb.Booster(model_str=prepared.artifact.decode())
    assert prepared.runtime == "lightgbm"
    assert np.array_equal(again.predict(X), native.predict(X))


def test_a_booster_stopped_early_is_sent_up_to_its_best_iteration():
    data = lgb.Dataset(X, models.target(X))
    valid = lgb.Dataset(X, models.target(X, seed=9), reference=data)
    native = lgb.train(
        {**models.LIGHTGBM_PARAMS, "metric": "l2"},
        data,
        200,
        valid_sets=[valid],
        callbacks=[lgb.early_stopping(2, verbose=False)],
    )
    again = lgb.Booster(model_str=fitted(native).artifact.decode())
    assert again.num_trees() == native.best_iteration < 200
    assert np.array_equal(again.predict(X), native.predict(X))


def test_a_lightgbm_regressor_is_its_booster():
    model = lgb.LGBMRegressor(**PARAMS).fit(X, models.target(X))
    prepared = fitted(model)
    assert (prepared.runtime, prepared.classes) == ("lightgbm", ())
    assert np.array_equal(lgb.Booster(model_str=prepared.artifact.decode()).predict(X), model.predict(X))


@pytest.mark.parametrize("classes", [("low", "high"), (1, 2, 5), (False, True)])
def test_a_lightgbm_classifier_brings_its_classes_in_its_own_order(classes):
    model = lgb.LGBMClassifier(**PARAMS).fit(X, models.labels(X, classes))
    assert list(fitted(model).classes) == model.classes_.tolist()
    assert [type(label) for label in fitted(model).classes] == [type(classes[0])] * len(classes)


def test_pandas_categories_travel_with_the_model():
    table = X.assign(kind=pd.Categorical(np.where(X["price"] > 5, "a", "b")))
    model = lgb.LGBMRegressor(**PARAMS).fit(table, models.target(X))
    again = lgb.Booster(model_str=fitted(model).artifact.decode())
    assert again.pandas_categorical == [["a", "b"]]


@pytest.mark.parametrize("model", [Ridge(), make_pipeline(StandardScaler(), Ridge())])
def test_a_scikit_learn_estimator_becomes_skops(model):
    model.fit(X, models.target(X))
    prepared = fitted(model)
    again = skops.io.loads(prepared.artifact, trusted=[])
    assert (prepared.runtime, prepared.classes) == ("sklearn", ())
    assert np.array_equal(again.predict(X), model.predict(X))


def test_a_scikit_learn_classifier_keeps_its_classes_in_its_bytes():
    model = LogisticRegression().fit(X, models.labels(X, ("a", "b")))
    assert fitted(model).classes == ()


def test_an_onnx_model_becomes_its_protobuf_bytes():
    import onnx

    data = models.onnx_ridge().data
    prepared = fitted(onnx.load_from_string(data))
    assert prepared.runtime == "onnx"
    onnxruntime.InferenceSession(prepared.artifact, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("make", [models.lightgbm_regressor, models.onnx_ridge, models.ridge])
def test_bytes_and_files_are_recognised_by_how_they_begin(make, tmp_path):
    tiny = make()
    path = tmp_path / "model.bin"
    path.write_bytes(tiny.data)
    for given in (tiny.data, bytearray(tiny.data), path):
        prepared = fitted(given)
        assert (prepared.runtime, prepared.artifact, prepared.in_memory) == (tiny.runtime, tiny.data, False)


def test_a_pickle_is_refused_before_it_is_sent():
    import pickle

    with pytest.raises(UnsupportedModelError, match="pickle"):
        fitted(pickle.dumps(Ridge()))


def test_bytes_of_no_known_form_need_their_runtime_named():
    with pytest.raises(UnsupportedModelError, match="name their runtime"):
        fitted(b"hello")
    assert fitted(b"hello", "onnx").runtime == "onnx"
    with pytest.raises(UnsupportedModelError, match="one of lightgbm, onnx, sklearn"):
        fitted(b"hello", "torch")


@pytest.mark.parametrize("thing", [object(), "model.txt", {"a": 1}, None])
def test_what_no_runtime_serves_is_refused_saying_what_would_be(thing):
    with pytest.raises(UnsupportedModelError, match="fitted LightGBM or scikit-learn"):
        fitted(thing)


def test_an_estimator_that_is_not_fitted_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"call fit\(\) first"):
        fitted(lgb.LGBMRegressor())


def test_meta_gathers_when_where_and_with_what_a_model_was_made(tmp_path):
    prepared = fitted(models.lightgbm_regressor().native)
    said = meta(
        prepared, provenance={"trained_through": datetime(2026, 11, 19, tzinfo=UTC), "run": 7}, now=NOW, folder=tmp_path
    )
    provenance = said["provenance"]
    assert provenance["trained_at"] == "2026-11-20T06:00:00Z"
    assert provenance["trained_through"] == "2026-11-19T00:00:00Z"
    assert provenance["run"] == "7"
    assert f"lightgbm {lgb.__version__}" in provenance["libraries"]
    assert "commit" not in provenance
    assert set(said) == {"provenance"}


def test_what_the_caller_says_of_a_models_making_wins(tmp_path):
    said = meta(
        fitted(models.lightgbm_regressor().native),
        provenance={"trained_at": "2025", "libraries": None},
        folder=tmp_path,
    )
    assert said["provenance"] == {"trained_at": "2025"}


def test_nothing_is_claimed_of_the_making_of_bytes(tmp_path):
    said = meta(fitted(models.lightgbm_regressor().data), folder=tmp_path)
    assert set(said["provenance"]) == {"libraries"}


def test_the_git_commit_is_told_and_whether_files_differ_from_it(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        run = subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True, text=True)
        return run.stdout.strip()

    prepared = fitted(models.lightgbm_regressor().native)
    clean, dirty = tmp_path / "clean", tmp_path / "dirty"
    git("init", "-q")
    for folder in (clean, dirty):
        folder.mkdir()
        (folder / "train.py").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "Train")
    commit = git("rev-parse", "HEAD")
    assert meta(prepared, folder=clean)["provenance"]["commit"] == commit
    (dirty / "train.py").write_text("2")
    assert meta(prepared, folder=dirty)["provenance"]["commit"] == f"{commit}-dirty"


def test_tags_metrics_classes_and_examples_are_plain_json_values(tmp_path):
    said = meta(
        fitted(models.lightgbm_regressor().data),
        tags={"region": "nw", "depth": 3},
        metrics={"rmse": np.float64(1.5)},
        classes=np.array([1, 2]),
        examples={"instances": [[1.0]], "predictions": [2.0]},
        folder=tmp_path,
    )
    assert said["tags"] == {"region": "nw", "depth": "3"}
    assert said["metrics"] == {"rmse": 1.5}
    assert said["classes"] == [1, 2]
    assert said["examples"]["predictions"] == [2.0]


def test_whole_float_classes_are_integers():
    assert labels(np.array([0.0, 1.0])) == (0, 1)


def test_the_client_imports_no_modelling_library():
    code = "import sys, manymodels.client, manymodels.http_transport; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path.cwd())
    loaded = set(run.stdout.split())
    assert not loaded & {"numpy", "pandas", "pyarrow", "lightgbm", "sklearn", "onnx", "rich", "typer"}
    assert not loaded & {"gateway", "workers", "discovery", "registry"}
