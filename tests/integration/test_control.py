"""The control plane over a whole house: real app, real home, real builder."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.control.table import TABLE
from tests.support import models
from tests.support.house import SIGNATURE, running_house
from tests.support.refusals import problem
from tests.support.waiting import until


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_house(tmp_path_factory.mktemp("control")) as house:
        yield house


def staged(house):
    return list(house.assembly.context.store.staged_names())


def test_a_registered_model_goes_live_answers_and_is_found(house):
    group, model = house.create("whole"), models.lightgbm_regressor(1)
    answer = house.register(group, model, {"store": "2", "brand": "tropicana"}, x_model_meta='{"tags":{"region":"nw"}}')
    assert answer.status_code == 201, answer.text
    assert answer.json() == {
        "key": "store=2/brand=tropicana",
        "version": 1,
        "digest": answer.json()["digest"],
        "created": True,
    }
    house.until_live(group)
    predicted = house.predict(group, {"store": "2", "brand": "tropicana"}, 3.87).json()
    assert predicted["predictions"] == model.native.predict([[3.87, 0.0]]).tolist()
    found = house.client.get(
        "/v1/discovery/lookup", params={"group": "whole", "store": "2", "brand": "tropicana"}
    ).json()
    assert (found["version"], found["release"], found["model_key"]) == (1, 1, "store=2/brand=tropicana")
    assert [member["uri"] for member in found["members"]] == ["http://127.0.0.1:9"]
    shown = house.client.get(group).json()
    assert (shown["live"]["release"], shown["live"]["models"], shown["models"], shown["holds"]) == (1, 1, 1, 0)
    history = house.client.get(f"{group}/models/history", params={"store": "2", "brand": "tropicana"}).json()
    assert [(item["version"], item["live"][0]["release"], item["live"][0]["to"]) for item in history["versions"]] == [
        (1, 1, None)
    ]


def test_the_same_bytes_again_are_the_same_version(house):
    group, model = house.create("again"), models.lightgbm_regressor(2)
    first = house.register(group, model, {"store": "2", "brand": "a"})
    second = house.register(group, model, {"store": "2", "brand": "a"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json() | {"created": False}


def test_racing_registrations_of_the_same_bytes_make_one_version(house):
    group, model = house.create("race"), models.lightgbm_regressor(3)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: house.register(group, model, {"store": "1", "brand": "a"}), range(16)))
    assert {answer.json()["version"] for answer in answers} == {1}
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]


@pytest.mark.parametrize(
    ("data", "runtime", "code"),
    [
        (b"\x80\x04\x95not a model", "onnx", "artifact_invalid"),
        (b"", "lightgbm", "artifact_invalid"),
        (models.lightgbm_regressor(4).data[:300], "lightgbm", "artifact_invalid"),
        (models.lightgbm_regressor(4).data, "sklearn", "artifact_invalid"),
        (models.lightgbm_regressor(4, features=("price", "colour")).data, "lightgbm", "signature_mismatch"),
    ],
)
def test_a_refused_artifact_leaves_nothing_behind(house, data, runtime, code):
    if house.client.get("/v1/groups/refused").status_code == 404:
        house.create("refused")
    model = models.TinyModel(runtime, None, data)
    problem(house.register("/v1/groups/refused", model, {"store": "1", "brand": "a"}), 400, code)
    assert house.client.get("/v1/groups/refused/models").json() == {"models": [], "cursor": None}
    until(lambda: not staged(house))


def test_a_registration_is_refused_before_its_body_is_kept(house):
    group, model = house.create("early"), models.lightgbm_regressor(5)
    url, key, runtime = f"{group}/models", {"store": "1", "brand": "a"}, {"x-model-runtime": "lightgbm"}

    def post(params=key, headers=runtime, url=url):
        return house.client.post(url, params=params, headers=headers, content=model.data)

    problem(post(url="/v1/groups/nobody/models"), 404, "group_not_found")
    problem(post(params={"store": "1"}), 400, "key_field_missing")
    problem(post(params={"store": "1", "brand": ""}), 400, "key_type")
    problem(post(params={"store": "1", "brand": "x" * 513}), 400, "key_too_long")
    problem(post(params=key | {"region": "nw"}), 400, "key_field_unknown")
    problem(post(params="store=1&brand=a&brand=b"), 400, "parameter_invalid")
    problem(post(headers={}), 400, "parameter_invalid")
    problem(post(headers={"x-model-runtime": "pickle"}), 400, "parameter_invalid")
    problem(post(headers=runtime | {"x-model-meta": "{"}), 400, "meta_invalid")
    problem(post(headers=runtime | {"x-model-meta": '{"tags":{"a":1}}'}), 400, "meta_invalid")
    problem(post(headers=runtime | {"content-type": "multipart/form-data; boundary=x"}), 415, "unsupported_media_type")
    assert staged(house) == []


def test_without_a_builder_a_registration_is_told_to_come_back(tmp_path):
    with running_house(tmp_path, builder=False, prove_seconds=0.1) as alone:
        group = alone.create("alone")
        answer = alone.register(group, models.lightgbm_regressor(6), {"store": "1", "brand": "a"})
        problem(answer, 503, "builder_unavailable")
        assert answer.headers["retry-after"]


def test_releases_promote_and_roll_back_under_an_etag(house):
    group = house.create("flips", auto_release=False)
    keys = [{"store": store, "brand": "a"} for store in "12"]
    house.register(group, models.lightgbm_regressor(1), keys[0])
    first = house.release(group)
    assert house.promote(group, first).json()["kind"] == "promote"
    before = house.client.get(f"{group}/deployments")
    assert before.json() == {"deployments": {"blue": {"release": first, "traffic": 100}}}
    house.register(group, models.lightgbm_regressor(2), keys[1])
    second = house.release(group, gates={"max_lost": 0})
    change = {"blue": {"release": second, "traffic": 100}}
    url, tag = f"{group}/deployments", {"if-match": before.headers["etag"]}
    done = house.client.put(url, json=change, headers=tag)
    assert (done.status_code, done.headers["etag"]) != (200, before.headers["etag"])
    problem(house.client.put(url, json=change, headers=tag), 412, "precondition_failed")
    problem(house.client.put(url, json=change, headers={"if-match": "nonsense"}), 400, "parameter_invalid")
    assert house.predict(group, keys[1]).status_code == 200
    back = house.promote(group, first).json()
    assert (back["kind"], back["withdrawn"]) == ("rollback", 1)
    problem(house.predict(group, keys[1]), 404, "partition_not_found")
    assert house.client.get(group).json()["suspended"] is True
    assert [item["number"] for item in house.client.get(f"{group}/releases").json()["releases"]] == [2, 1]


def test_a_release_of_named_versions_holds_exactly_those(house):
    group = house.create("named", auto_release=False)
    for store in "12":
        house.register(group, models.lightgbm_regressor(1), {"store": store, "brand": "a"})
    number = house.release(group, set=[{"key": {"store": 1, "brand": "a"}, "version": 1}])
    shown = house.client.get(f"{group}/releases/{number}").json()
    assert (shown["state"], shown["models"], shown["report"]["added"]) == ("ready", 1, 1)
    missing = {"set": [{"key": {"store": "1", "brand": "a"}, "version": 9}]}
    problem(house.client.post(f"{group}/releases", json=missing), 404, "version_not_found")
    float_key = {"set": [{"key": {"store": 1.5, "brand": "a"}, "version": 1}]}
    problem(house.client.post(f"{group}/releases", json=float_key), 400, "key_type")
    problem(house.client.post(f"{group}/releases", json={"base": 77}), 404, "release_not_found")
    problem(house.client.get(f"{group}/releases/77"), 404, "release_not_found")
    assert len(house.client.get(f"{group}/releases").json()["releases"]) == 1


def test_a_deployment_of_what_is_not_there_is_refused(house):
    group = house.create("undeployable", auto_release=False)
    problem(house.promote(group, 5), 404, "release_not_found")
    problem(house.client.put(f"{group}/deployments", json={}), 400, "deployment_invalid")
    answer = house.client.put(f"{group}/deployments", json={"blue": {"release": "1"}})
    assert problem(answer, 400, "body_invalid")["field"] == "blue.release"
    assert house.client.get(f"{group}/deployments").json() == {"deployments": {}}


def test_a_disabled_key_falls_back_at_once_until_the_hold_is_dropped(house):
    group, key = house.create("held"), {"store": "1", "brand": "a"}
    house.register(group, models.lightgbm_regressor(1), key)
    house.register(group, models.lightgbm_regressor(2), {"brand": "a"})
    until(lambda: house.predict(group, {"store": "9", "brand": "a"}).status_code == 200)
    assert house.predict(group, key).json()["model"]["fallback_level"] == 0
    hold = {"action": "disable", "reason": "negative answers", "author": "me", "until": "2999-01-01"}
    answer = house.client.put(f"{group}/holds", params=key, json=hold)
    assert answer.json() | {"created": ""} == {
        **hold,
        "key": "store=1/brand=a",
        "version": None,
        "created": "",
        "until": "2999-01-01T00:00:00.000Z",
    }
    assert house.predict(group, key).json()["model"]["fallback_level"] == 1
    status = house.client.get("/v1/status").json()
    mine = next(item for item in status["groups"] if item["name"] == "held")
    assert [item["key"] for item in mine["held"]] == ["store=1/brand=a"]
    assert house.client.delete(f"{group}/holds", params=key).status_code == 204
    assert house.predict(group, key).json()["model"]["fallback_level"] == 0
    problem(house.client.delete(f"{group}/holds", params=key), 404, "hold_not_found")


def test_a_malformed_hold_changes_nothing(house):
    group, key = house.create("badholds"), {"store": "1", "brand": "a"}

    def put(**hold):
        return house.client.put(f"{group}/holds", params=key, json={"action": "disable", "reason": "x"} | hold)

    problem(put(until="someday"), 400, "hold_invalid")
    problem(put(action="stop"), 400, "body_invalid")
    problem(put(reason=""), 400, "body_invalid")
    assert put(action="pin").status_code == 400
    assert house.client.get(f"{group}/holds").json() == {"holds": []}


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"name": "OJ"}, "group_invalid", "name"),
        ({"name": "a/b"}, "group_invalid", "name"),
        ({"name": "../a"}, "group_invalid", "name"),
        ({"name": ""}, "group_invalid", "name"),
        ({"key": []}, "group_invalid", "key"),
        ({"key": ["limit"]}, "group_invalid", "key"),
        ({"key": ["a", "a"]}, "group_invalid", "key"),
        ({"fallback": [["region"]]}, "group_invalid", "fallback"),
        ({"shard_by": ["region"]}, "group_invalid", "shard_by"),
        ({"signature": SIGNATURE | {"inputs": []}}, "signature_invalid", "inputs"),
        ({"signature": SIGNATURE | {"inputs": [{"name": "x"}, {"name": "x"}]}}, "signature_invalid", "inputs"),
        ({"nme": 1}, "body_invalid", "nme"),
    ],
)
def test_a_malformed_group_is_refused_and_not_created(house, change, code, field):
    body = {"name": "malformed", "key": ["store"], "signature": SIGNATURE} | change
    assert problem(house.client.post("/v1/groups", json=body), 400, code)["field"] == field
    assert "malformed" not in [group["name"] for group in house.client.get("/v1/groups").json()["groups"]]


def test_a_group_is_created_once_shown_as_it_was_given_and_deleted_only_on_confirmation(house):
    group = house.create("once")
    body = {"name": "once", "key": ["store", "brand"], "signature": SIGNATURE}
    problem(house.client.post("/v1/groups", json=body), 409, "group_exists")
    shown = house.client.get(group).json()
    assert (shown["key"], shown["fallback"], shown["live"]) == (["store", "brand"], [["brand"], []], None)
    problem(house.client.delete(group), 400, "confirmation_required")
    problem(house.client.delete(group, params={"confirm": "other"}), 400, "confirmation_required")
    assert house.client.delete(group, params={"confirm": "once"}).status_code == 204
    problem(house.client.get(group), 404, "group_not_found")
    problem(house.predict(group, {"store": "1", "brand": "a"}), 404, "group_not_found")


@pytest.mark.parametrize("body", [b"{", b"", b"null", b'{"name":"a","name":"b"}', b"[" * 3000])
def test_broken_json_is_a_problem_and_never_a_failure(house, body):
    answer = house.client.post("/v1/groups", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["code"] in ("json_invalid", "body_invalid")


@pytest.mark.parametrize("operation", [item for item in TABLE if "{group}" in item.path], ids=lambda item: item.name)
@pytest.mark.parametrize("name", ["nobody", "%2e%2e", "a%00b", "%ff", "A", "x" * 100])
def test_every_route_of_an_unknown_group_is_a_problem(house, operation, name):
    path = operation.path.replace("{group}", name).replace("{number}", "1")
    answer = house.client.request(
        operation.method, path, content=b"{}", headers={"content-type": "application/json", "x-model-runtime": "onnx"}
    )
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] in (
        "group_not_found",
        "not_found",
        "body_invalid",
    )


@pytest.mark.parametrize("path", sorted({item.path for item in TABLE}))
def test_a_wrong_method_is_answered_with_every_right_one(house, path):
    answer = house.client.request("PATCH", path.replace("{group}", "g").replace("{number}", "1").replace("{name}", "x"))
    problem(answer, 405, "method_not_allowed")
    right = {item.method for item in TABLE if item.path == path}
    assert {method.strip() for method in answer.headers["allow"].split(",")} - {"HEAD"} == right


def test_an_unknown_route_is_a_problem(house):
    problem(house.client.get("/v1/nowhere"), 404, "not_found")
    problem(house.client.get("/v1/groups?colour=red"), 400, "parameter_invalid")


def test_a_long_poll_answers_when_something_changes_and_at_once_to_strangers(house):
    now = house.client.get("/v1/discovery/snapshot").json()
    answers = []

    def poll():
        params = {"since": now["revision"], "wait": "30s"}
        answers.append(house.client.get("/v1/discovery/snapshot", params=params).json())

    waiting = threading.Thread(target=poll)
    waiting.start()
    house.create("polled")
    waiting.join(10)
    assert answers[0]["revision"] != now["revision"]
    assert "polled" in [group["name"] for group in answers[0]["groups"]]
    for stranger in ("", "x", "other-1", now["revision"].rpartition("-")[0] + "-999999999"):
        answer = house.client.get("/v1/discovery/snapshot", params={"since": stranger, "wait": "60s"})
        assert answer.status_code == 200
    problem(house.client.get("/v1/discovery/snapshot", params={"wait": "soon"}), 400, "parameter_invalid")


def test_a_long_poll_without_a_change_answers_after_its_wait(house):
    revision = house.client.get("/v1/discovery/snapshot").json()["revision"]
    answer = house.client.get("/v1/discovery/snapshot", params={"since": revision, "wait": "50ms"})
    assert answer.status_code == 200


def test_services_status_health_and_metrics_tell_of_the_house(house):
    group = house.create("told")
    house.register(group, models.lightgbm_regressor(1), {"store": "1", "brand": "a"})
    house.until_live(group)
    assert set(house.client.get("/v1/discovery/services").json()["services"]) >= {"worker", "gateway"}
    status = house.client.get("/v1/status").json()
    mine = next(item for item in status["groups"] if item["name"] == "told")
    assert (mine["live"]["release"], mine["models"], mine["lost"], mine["newest_release"]["number"]) == (1, 1, 0, 1)
    assert mine["shards"] >= 1
    assert status["cache"]["budget_bytes"] > 0
    assert house.client.get("/health/live").json() == {"status": "ok"}
    assert house.client.get("/health/ready").json() == {"status": "ok"}
    metrics = house.client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'manymodels_release_age_seconds{group="told"}' in metrics.text
    assert 'manymodels_models{group="told",state="live"} 1.0' in metrics.text


def test_lookup_says_why_a_key_is_not_found(house):
    group = house.create("lost", fallback=[])
    url, key = "/v1/discovery/lookup", {"group": "lost", "store": "1", "brand": "a"}
    problem(house.client.get(url, params=key), 404, "nothing_live")
    house.register(group, models.lightgbm_regressor(1), {"store": "1", "brand": "a"})
    house.until_live(group)
    assert house.client.get(url, params=key).json()["fallback_level"] == 0
    problem(house.client.get(url, params=key | {"store": "2"}), 404, "partition_not_found")
    problem(house.client.get(url, params={"store": "2"}), 400, "parameter_invalid")
    problem(house.client.get(url, params=key | {"group": "nobody"}), 404, "group_not_found")
    problem(house.client.get(url, params={"group": "lost", "store": "2"}), 400, "key_field_missing")


def test_the_docs_page_and_all_its_files_are_served_here(house):
    page = house.client.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "favicon-32x32.png"):
        assert f"docs/assets/{name}" in page.text
        assert house.client.get(f"/docs/assets/{name}").status_code == 200
    problem(house.client.get("/docs/assets/index.html"), 404, "not_found")
    problem(house.client.get("/docs/assets/..%2f__init__.py"), 404, "not_found")
    assert house.client.get("/openapi.json").json()["openapi"] == "3.1.0"


def test_a_group_says_where_its_shards_are_held_and_is_placed_anew(house):
    group = house.create("placed")
    shown = house.client.get(group).json()
    assert (shown["replicas"], shown["pool"]) == (2, "default")
    answer = house.client.put(f"{group}/placement", json={"replicas": 3})
    assert answer.status_code == 200, answer.text
    assert house.client.put(f"{group}/placement", json={"pool": "gpu"}).json()["replicas"] == 3
    shown = house.client.get(group).json()
    assert (shown["replicas"], shown["pool"]) == (3, "gpu")
    problem(house.client.put(f"{group}/placement", json={"replicas": 0}), 400, "group_invalid")
    problem(house.client.put(f"{group}/placement", json={"seats": 1}), 400, "body_invalid")
    problem(house.client.put("/v1/groups/nobody/placement", json={"replicas": 1}), 404, "group_not_found")


def test_lookup_explains_itself_unless_that_is_a_key_field_of_the_group(house):
    group, key = house.create("explained"), {"store": "1", "brand": "a"}
    house.register(group, models.lightgbm_regressor(1), key)
    house.until_live(group)
    url = "/v1/discovery/lookup"
    plain = house.client.get(url, params={"group": "explained", **key}).json()
    assert "explanation" not in plain
    told = house.client.get(url, params={"group": "explained", "explain": "true", **key}).json()
    assert [(one["rank"], one["reason"], one["seat"]) for one in told["explanation"]] == [
        (1, "alive: by score", None),
        (None, "not a worker", None),  # the builder
    ]
    assert "explanation" not in house.client.get(url, params={"group": "explained", "explain": "false", **key}).json()
    problem(house.client.get(url, params={"group": "explained", "explain": "1", **key}), 400, "parameter_invalid")

    house.client.post("/v1/groups", json={"name": "asks-why", "key": ["explain"], "signature": SIGNATURE})
    house.register("/v1/groups/asks-why", models.lightgbm_regressor(2), {"explain": "true"})
    house.until_live("/v1/groups/asks-why")
    found = house.client.get(url, params={"group": "asks-why", "explain": "true"}).json()
    assert found["model_key"] == "explain=true"
    assert "explanation" not in found


def test_status_and_snapshot_say_nothing_of_seats_where_every_worker_holds_everything(house):
    house.create("whole-share")
    found = {group["name"]: group for group in house.client.get("/v1/status").json()["groups"]}["whole-share"]
    assert (found["seated"], found["replicas"], found["pool"]) == (None, 2, "default")
    shown = {group["name"]: group for group in house.client.get("/v1/discovery/snapshot").json()["groups"]}
    assert (shown["whole-share"]["seats"], shown["whole-share"]["moves"]) == ({}, {})
