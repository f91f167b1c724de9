"""The client against the real application, both over HTTP and over a home without a server."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lightgbm import LGBMClassifier

from gateway.house import open_house
from gateway.settings import Settings
from manymodels import Client
from manymodels.cli.session import HouseTransport
from manymodels.errors import (
    ApiError,
    ConflictError,
    ImportFailedError,
    InvalidRequestError,
    NotFoundError,
    NothingReadyError,
    ReleaseRefusedError,
)
from tests.support import models
from tests.support.served import served
from tests.support.waiting import until

SIGNATURE = {
    "inputs": [{"name": "price"}, {"name": "feat", "dtype": "float64", "default": 0}],
    "outputs": [{"name": "sales"}],
}
AWKWARD = ["a/b", "a=b", "a;b", "%2F", "..", "a b", "🍊", "a+b", "a&b", "a#b", "a?b", "é", "[x]", '"q"', "\\", "a%00b"]
PATIENT = {"promote_seconds": 60.0}  # the first model of a library makes the process import it
ROWS = [{"price": 1.5, "feat": 2.0}, {"price": 7.25}]
FRAME = pd.DataFrame({"price": [1.5, 7.25], "feat": [2.0, 0.0]})


@pytest.fixture(scope="module", params=["http", "home"])
def client(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("home") / "house"
    if request.param == "http":
        with served(home, settings=PATIENT) as running, Client(running.url) as client:
            yield client
    else:
        with open_house(home, settings=lambda: Settings(**PATIENT)) as house, Client(HouseTransport(house)) as client:
            yield client


@pytest.fixture
def group(client, request):
    """A fresh group of store and brand with the whole fallback chain."""
    name = f"g{abs(hash(request.node.name))}"
    client.create_group(name, ["store", "brand"], SIGNATURE, fallback=[["brand"], []])
    yield name
    client.delete_group(name, confirm=name)


def live_key(client, group, key):
    """The prediction for a key once one of its own models answers."""

    def ask():
        try:
            answer = client.predict(group, key, ROWS)
        except NotFoundError:
            return None
        return answer if answer.model.fallback_level == 0 else None

    return until(ask, what="a model of the key's own")


@pytest.mark.parametrize("make", [models.lightgbm_regressor, models.ridge, models.onnx_ridge])
def test_a_fitted_model_is_registered_in_one_call_and_answers_like_itself(client, group, make):
    tiny = make()
    model = tiny.data if tiny.runtime == "onnx" else tiny.native
    made = client.register(group, {"store": 2, "brand": "x"}, model, provenance={"trained_through": "2026-11-19"})
    answer = live_key(client, group, {"store": "2", "brand": "x"})
    expected = np.asarray(tiny.native.predict(FRAME)).reshape(-1)
    assert (made.key, made.version, made.created) == ("store=2/brand=x", 1, True)
    np.testing.assert_allclose(answer.predictions, expected, rtol=0 if tiny.runtime == "lightgbm" else 1e-6)
    assert answer.model.trained_through == "2026-11-19"


def test_a_classifier_brings_its_classes_along(client, request):
    name = f"c{abs(hash(request.node.name))}"
    table = models.frame()
    model = LGBMClassifier(n_estimators=5, num_leaves=7, verbosity=-1, num_threads=1).fit(
        table, models.labels(table, ("lo", "hi"))
    )
    outputs = [{"name": "risk", "kind": "probabilities", "classes": ["lo", "mid", "hi"]}]
    client.create_group(name, ["store"], {**SIGNATURE, "outputs": outputs})
    client.register(name, {"store": 1}, model)
    answer = live_key(client, name, {"store": 1})
    native = dict(zip(model.classes_, model.predict_proba(FRAME).T, strict=True))
    expected = np.column_stack([native["lo"], np.zeros(2), native["hi"]])
    assert np.array_equal(np.array(answer.predictions), expected)
    client.delete_group(name, confirm=name)


def test_registering_the_same_bytes_again_is_the_same_version(client, group):
    key, data = {"store": 1, "brand": "x"}, models.lightgbm_regressor().data
    assert client.register(group, key, data).created
    again = client.register(group, key, data)
    assert (again.version, again.created) == (1, False)


def test_awkward_key_values_round_trip_through_every_call(client, group):
    tiny = models.lightgbm_regressor()
    keys = [{"store": value, "brand": "🍊/=%2F"} for value in AWKWARD]
    made = [client.register(group, key, tiny.data).key for key in keys]
    for key, name in zip(keys, made, strict=True):
        answer = live_key(client, group, key)
        bulk = pd.DataFrame([{**key, "price": 1.5, "feat": 2.0}])
        columns = {"columns": list(bulk.columns), "data": bulk.to_numpy().tolist()}
        assert answer.model.key == name == client.lookup(group, key).model_key
        assert client.predict_bulk(group, bulk).predictions == client.predict_bulk(group, columns).predictions
        assert client.predict_bulk(group, bulk).predictions == answer.predictions[:1]
        assert [version.fields for version in client.models(group, key)] == [key]
        assert [version.version for version in client.history(group, key)] == [1]
        assert client.hold(group, key, "disable", reason="test").key == name
        assert [hold.key for hold in client.holds(group)] == [name]
        client.unhold(group, key)
    assert [client.delete_model(group, key) for key in keys] == [2] * len(keys)


def fleet(count, *, bad=()):
    """A table of `count` models for stores 0.., and fallback models for a brand and the whole group."""
    tiny = [models.lightgbm_regressor(seed) for seed in range(3)]
    keys = [(str(store), "x") for store in range(count)] + [(None, "x"), (None, None)]
    data = [b"tree\nnot really" if i in bad else tiny[i % 3].data for i in range(len(keys))]
    return pa.table(
        {
            "store": pa.array([key[0] for key in keys], pa.string()),
            "brand": pa.array([key[1] for key in keys], pa.string()),
            "model": pa.array(data, pa.binary()),
            "runtime": ["lightgbm"] * len(keys),
        }
    )


def test_a_folder_is_imported_released_and_answers_in_every_form(client, group, tmp_path):
    table = fleet(10)
    pq.write_table(table.slice(0, 6), tmp_path / "part-0.parquet")
    pq.write_table(table.slice(6), tmp_path / "part-1.parquet")
    seen = []
    records = client.import_fleet(group, tmp_path, progress=seen.append)
    release = client.release(group, gates={"max_lost": 0})
    done = client.promote(group)
    assert [record.registered for record in records] == [6, 6]
    assert {step.path.name for step in seen if step.record.state == "done"} == {"part-0.parquet", "part-1.parquet"}
    assert (release.models, done.live) == (12, release.number)
    asked = pd.DataFrame({"store": ["0", "7", "99", "99"], "brand": ["x", "x", "x", "new"], "price": 1.5, "feat": 2.0})
    for result in (
        client.predict_bulk(group, asked),
        client.predict_bulk(group, pa.Table.from_pandas(asked)),
        client.predict_bulk(group, asked.to_dict("records")),
    ):
        assert result.fallback_level == [0, 0, 1, 2]
        assert result.releases == {"blue": release.number}
        natives = [models.lightgbm_regressor(seed).native.predict(FRAME[:1])[0] for seed in (0, 1, 1, 2)]
        assert result.predictions == natives
    explained = client.predict_bulk(group, asked, explain=True)
    assert [explained.models[i].fallback_level for i in explained.model_index] == [0, 0, 1, 2]
    capped = client.predict_bulk(group, asked, max_fallback_level=1)
    assert capped.predictions[3] is None
    assert [(error.row, error.code) for error in capped.errors] == [(3, "partition_not_found")]


def test_importing_the_same_file_again_changes_nothing(client, group, tmp_path):
    pq.write_table(fleet(5), tmp_path / "fleet.parquet")
    client.import_fleet(group, tmp_path)
    (again,) = client.import_fleet(group, tmp_path / "fleet.parquet")
    assert (again.registered, again.unchanged) == (0, 7)
    assert len(client.imports(group)) == 2


def test_rejected_rows_are_named_and_skipped_only_on_request(client, group, tmp_path):
    pq.write_table(fleet(5, bad=(2,)), tmp_path / "fleet.parquet")
    with pytest.raises(ImportFailedError, match="store=2/brand=x") as caught:
        client.import_fleet(group, tmp_path)
    assert list(client.models(group)) == []
    assert caught.value.rejects[0].code == "artifact_invalid"
    (record,) = client.import_fleet(group, tmp_path, on_error="skip")
    assert (record.registered, record.rejected) == (6, 1)
    assert [reject.row for reject in client.rejects(group, record.number)] == [2]


def test_listings_cross_page_borders(client, group, tmp_path):
    pq.write_table(fleet(7), tmp_path / "fleet.parquet")
    client.import_fleet(group, tmp_path)
    found = [version.key for version in client.models(group, page=2)]
    assert len(found) == len(set(found)) == 9


def test_rollback_goes_to_the_release_before_and_promote_comes_back(client, group, tmp_path):
    pq.write_table(fleet(3), tmp_path / "fleet.parquet")
    client.import_fleet(group, tmp_path)
    first = client.promote(group).live
    client.register(group, {"store": 0, "brand": "x"}, models.lightgbm_regressor(9).data)
    until(lambda: client.deployments(group).live != first, what="a promotion")
    done = client.rollback(group)
    assert (done.live, done.kind, done.withdrawn) == (first, "rollback", 1)
    assert client.predict(group, {"store": 0, "brand": "x"}, ROWS).model.release == first
    assert client.group(group).suspended
    history = client.history(group, {"store": 0, "brand": "x"})
    assert [version.withdrawn for version in history] == [True, False]
    assert [period.release for period in history[1].live][-1] == first
    with pytest.raises(NothingReadyError):
        client.rollback(group)


def test_a_blocked_release_is_an_error_and_leaves_the_live_one(client, group, tmp_path):
    pq.write_table(fleet(3), tmp_path / "fleet.parquet")
    client.import_fleet(group, tmp_path)
    first = client.promote(group).live
    client.delete_model(group, {"store": 0, "brand": "x"})
    with pytest.raises(ReleaseRefusedError, match="blocked") as caught:
        client.release(group, gates={"max_lost": 0})
    assert caught.value.release.report["lost"] == 1
    with pytest.raises(ConflictError, match="release_state"):
        client.promote(group, caught.value.release.number)
    assert client.deployments(group).live == first


def test_a_conditional_promotion_is_refused_when_somebody_was_faster(client, group, tmp_path):
    pq.write_table(fleet(3), tmp_path / "fleet.parquet")
    client.import_fleet(group, tmp_path)
    stale = client.deployments(group).etag
    release = client.release(group)
    client.promote(group, release.number)
    with pytest.raises(ConflictError, match="precondition_failed"):
        client.promote(group, release.number, if_match=stale)


def test_status_lookup_and_group_tell_what_is_live(client, group, tmp_path):
    pq.write_table(fleet(3), tmp_path / "fleet.parquet")
    client.import_fleet(group, tmp_path)
    client.promote(group)
    client.hold(group, {"store": 1, "brand": "x"}, "freeze", reason="r", author="a")
    state = next(each for each in client.status().groups if each.name == group)
    found = client.lookup(group, {"store": 1, "brand": "x"})
    assert state.live is not None
    assert (state.live.models, state.lost, [hold.action for hold in state.held]) == (5, 0, ["freeze"])
    assert (found.release, found.version, found.fallback_level) == (state.live.release, 1, 0)
    assert client.group(group).holds == 1


@pytest.mark.parametrize(
    ("call", "kind", "code"),
    [
        (lambda c, g: c.predict("nosuch", {"store": 1}, ROWS), NotFoundError, "group_not_found"),
        (lambda c, g: c.predict(g, {"store": 1}, ROWS), InvalidRequestError, "key_field_missing"),
        (lambda c, g: c.predict(g, {"store": 1.5, "brand": "x"}, ROWS), InvalidRequestError, "key_type"),
        (lambda c, g: c.register(g, {"store": 1}, models.ridge().data), InvalidRequestError, "key_field_missing"),
        (
            lambda c, g: c.register(g, {"store": 1, "brand": "x"}, b"tree\nbroken"),
            InvalidRequestError,
            "artifact_invalid",
        ),
        (lambda c, g: c.release_record(g, 99), NotFoundError, "release_not_found"),
        (lambda c, g: c.unhold(g, {"store": 1, "brand": "x"}), NotFoundError, "hold_not_found"),
        (lambda c, g: c.create_group(g, ["store"], SIGNATURE), ConflictError, "group_exists"),
        (lambda c, g: c.delete_group(g, confirm="other"), InvalidRequestError, "confirmation_required"),
        (lambda c, g: c.import_record(g, 99), NotFoundError, "import_not_found"),
    ],
)
def test_each_refusal_is_a_typed_error_with_code_and_request_id(client, group, call, kind, code):
    with pytest.raises(kind) as caught:
        call(client, group)
    assert isinstance(caught.value, ApiError)
    assert caught.value.code == code
    assert caught.value.request_id
