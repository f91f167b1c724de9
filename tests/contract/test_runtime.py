"""One suite over every runtime: what the rest of the house may count on, whichever library answers."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import pytest

from registry.signature import Signature
from tests.support import models
from workers.errors import ArtifactInvalidError, SignatureMismatchError
from workers.features import Features
from workers.runtimes.catalog import RUNTIME_NAMES, runtime
from workers.runtimes.runtime import Binding
from workers.runtimes.sheet import Sheet


@dataclass
class Case:
    """A runtime with models of it: a regressor on any features, a classifier over given classes."""

    name: str
    regressor: Any
    classifier: Any
    takes_missing: Any


CASES = {
    "lightgbm": Case(
        "lightgbm",
        models.lightgbm_regressor,
        lambda classes: models.lightgbm_multiclass(classes=len(classes)),
        models.lightgbm_regressor,
    ),
    "sklearn": Case("sklearn", models.ridge, models.logistic, models.hist_boosting),
    "onnx": Case(
        "onnx",
        lambda seed=0, *, features=models.FEATURES: models.onnx_sum(features),
        models.onnx_logistic,
        models.onnx_sum,
    ),
}


@pytest.fixture(params=RUNTIME_NAMES)
def case(request):
    return CASES[request.param]


def signature(inputs=models.FEATURES, outputs=None):
    specs = [{"name": name, "nullable": True} for name in inputs]
    return Signature.from_json({"inputs": specs, "outputs": outputs or [{"name": "sales"}]})


def load(case, tiny, classes=(), **options):
    return runtime(case.name).load(tiny.data, Binding(signature(**options), classes))


def rows(count=20, width=2):
    return Features(np.random.default_rng(7).uniform(0, 10, (count, width)))


def test_a_runtime_says_its_name(case):
    assert runtime(case.name).name == case.name == case.regressor().runtime


def test_an_unknown_runtime_is_refused():
    with pytest.raises(ArtifactInvalidError, match="no runtime 'pickle'") as refused:
        runtime("pickle")
    assert refused.value.field == "runtime"


def test_its_own_format_is_let_pass_and_every_other_is_refused(case):
    for other in CASES.values():
        data = other.regressor().data
        if other is case:
            runtime(case.name).sniff(data)
        else:
            with pytest.raises(ArtifactInvalidError):
                runtime(case.name).sniff(data)


def test_pickles_under_any_name_are_refused_by_their_bytes(case, tmp_path):
    native = models.ridge().native
    joblib.dump(native, tmp_path / "model.onnx")
    pickles = [pickle.dumps(native, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for data in [*pickles, (tmp_path / "model.onnx").read_bytes()]:
        with pytest.raises(ArtifactInvalidError):
            runtime(case.name).sniff(data)


@pytest.mark.parametrize("data", [b"", b"\0", b"tree", b"PK\x03\x04", b"\x08", b"{}", b"\xff" * 100, b"\x08\x08" * 50])
def test_scraps_are_refused(case, data):
    with pytest.raises(ArtifactInvalidError):
        runtime(case.name).load(data, Binding(signature()))


def test_an_artifact_cut_off_anywhere_is_refused(case):
    data = case.regressor().data
    # Behind this mark LightGBM writes only the categories of pandas, which a model that has some cannot go without.
    end = data.rindex(b"end of parameters") if case.name == "lightgbm" else len(data)
    for cut in {*range(1, end, max(1, end // 60)), end - 1}:
        with pytest.raises(ArtifactInvalidError):
            runtime(case.name).load(data[:cut], Binding(signature()))


def test_an_input_the_signature_lacks_is_refused_by_name(case):
    with pytest.raises(SignatureMismatchError, match="'rain'") as refused:
        load(case, case.regressor(features=("price", "rain")))
    assert refused.value.field == "rain"


def test_features_in_another_order_and_a_subset_are_bound_by_name(case):
    tiny = case.regressor(features=("week", "price"))
    features = rows(width=4)
    model = load(case, tiny, inputs=("price", "feat", "week", "rain"))
    assert model.inputs == (2, 0)
    straight = load(case, tiny, inputs=("week", "price"))
    expected = straight.predict(Features(np.ascontiguousarray(features.matrix[:, [2, 0]])))
    np.testing.assert_array_equal(model.predict(features), expected)


def test_scores_are_float64_of_the_signatures_width_for_any_number_of_rows(case):
    model = load(case, case.regressor())
    for count in (0, 1, 2, 7, 8, 9, 100):
        scores = model.predict(rows(count))
        assert scores.dtype == np.float64
        assert scores.shape == (count, 1)


def test_rows_are_scored_alike_alone_and_together_and_on_a_sheet(case):
    model, features = load(case, case.regressor()), rows(25)
    together = model.predict(features)
    alone = [model.predict(features.take(np.array([row])))[0] for row in range(25)]
    sheet = Sheet(features, 1)
    for some in ([0], [1, 2, 4], list(range(5, 20)), [3], [20, 24], [21, 22, 23]):
        model.predict_rows(sheet, some)
    np.testing.assert_allclose(alone, together, rtol=1e-12)
    np.testing.assert_allclose(sheet.scores, together, rtol=1e-12)


def test_a_missing_value_reaches_models_that_take_it(case):
    model, features = load(case, case.takes_missing()), rows(4)
    whole = model.predict(features)
    features.matrix[1, 0] = np.nan
    holed = model.predict(features)
    np.testing.assert_array_equal(holed[[0, 2, 3]], whole[[0, 2, 3]])


def test_a_class_the_model_lacks_has_probability_zero_and_one_the_group_lacks_is_refused(case):
    outputs = [{"name": "p", "kind": "probabilities", "classes": ["hi", "huge", "lo", "mid"]}]
    tiny = case.classifier(("hi", "lo", "mid"))
    scores = load(case, tiny, ("hi", "lo", "mid"), outputs=outputs).predict(rows())
    assert (scores[:, 1] == 0.0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)
    narrow = [{"name": "p", "kind": "probabilities", "classes": ["hi", "lo"]}]
    with pytest.raises(SignatureMismatchError):
        load(case, tiny, ("hi", "lo", "mid"), outputs=narrow)


def test_one_model_serves_eight_threads_at_once(case):
    model, features = load(case, case.regressor()), rows(64)
    expected = np.array([model.predict(features.take(np.array([row])))[0] for row in range(64)])
    many = model.predict(features)

    def work(start):
        sheet = Sheet(features, 1)
        for turn in range(200):
            row = (start * 8 + turn) % 64
            np.testing.assert_array_equal(model.predict(features.take(np.array([row])))[0], expected[row])
            if turn % 50 == 0:
                np.testing.assert_array_equal(model.predict(features), many)
            model.predict_rows(sheet, [row])
            np.testing.assert_array_equal(sheet.scores[row], expected[row])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
