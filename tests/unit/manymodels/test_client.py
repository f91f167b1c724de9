"""What the client asks of a server and what it makes of the answers."""

import json
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from manymodels import Client
from manymodels.errors import (
    ImportFailedError,
    NotFoundError,
    NothingReadyError,
    ReleaseRefusedError,
    ServerFaultError,
    SourceNotFoundError,
)
from tests.support import models
from tests.support.scripted_server import Reply, problem, serving

USE = {"key": "store=2", "version": 1, "release": 3, "deployment": "blue", "fallback_level": 0, "trained_through": None}
RELEASE = {"number": 4, "state": "ready", "base": 3, "models": 2, "bytes": 9, "report": {}, "created": "2026-11-20T06:00:00.000Z", "ready": None}  # fmt: skip
IMPORT = {"import": 7, "state": "done", "on_error": "fail", "rows": 2, "proved": 2, "registered": 2, "unchanged": 0, "rejected": 0, "release": 1, "error": None, "created": "2026-11-20T06:00:00.000Z", "finished": None}  # fmt: skip
HOLD = {"key": "store=2", "action": "pin", "version": 1, "reason": "r", "author": "", "created": "2026-11-20T06:00:00.000Z", "until": None}  # fmt: skip
KEY = {"store": "a/b =%2F;..🍊", "brand": 2}
KEY_QUERY = "store=a%2Fb%20%3D%252F%3B..%F0%9F%8D%8A&brand=2"


def no_pause(_seconds: float) -> None:
    """The scripted server needs no time."""


def test_predict_sends_the_key_as_given_and_reads_which_model_answered():
    with (
        serving(lambda asked: Reply(body={"predictions": [9.1], "model": USE})) as server,
        Client(server.url) as client,
    ):
        answer = client.predict("g", KEY, [{"price": 3.87}], max_fallback_level=1)
    assert server.asked[0].path == "/v1/groups/g/predict"
    assert server.asked[0].json == {"key": KEY, "instances": [{"price": 3.87}], "max_fallback_level": 1}
    assert (answer.predictions, answer.model.release, answer.model.fallback_level) == ([9.1], 3, 0)


@pytest.mark.parametrize(
    "instances",
    [pd.DataFrame({"price": [1.0, np.nan], "feat": [1, 2]}), [{"price": 1.0, "feat": 1}, {"price": None, "feat": 2}]],
)
def test_predict_takes_rows_as_objects_or_a_frame(instances):
    with (
        serving(lambda asked: Reply(body={"predictions": [1, 2], "model": USE})) as server,
        Client(server.url) as client,
    ):
        client.predict("g", {"store": 2}, instances)
    assert server.asked[0].json["instances"] == [{"price": 1.0, "feat": 1}, {"price": None, "feat": 2}]


def test_predict_takes_a_numpy_matrix():
    with serving(lambda asked: Reply(body={"predictions": [1], "model": USE})) as server, Client(server.url) as client:
        client.predict("g", {"store": np.int64(2)}, np.array([[1.5, 2.0]]))
    assert server.asked[0].json == {"key": {"store": 2}, "instances": [[1.5, 2.0]]}


def test_a_refused_prediction_is_an_error_with_its_code():
    with (
        serving(lambda asked: problem(404, "partition_not_found", "no model")) as server,
        Client(server.url) as client,
        pytest.raises(NotFoundError) as caught,
    ):
        client.predict("g", {"store": 2}, [[1]])
    assert (caught.value.code, caught.value.request_id) == ("partition_not_found", "r-1")


def test_register_sends_bytes_runtime_and_meta_under_the_encoded_key():
    tiny = models.lightgbm_regressor()
    made = {"key": "k", "version": 3, "digest": "d", "created": True}
    with serving(lambda asked: Reply(201, made)) as server, Client(server.url) as client:
        registered = client.register(
            "g",
            KEY,
            tiny.native,
            tags={"städt": "ü"},
            metrics={"rmse": 1.5},
            provenance={"trained_through": date(2026, 11, 19)},
        )
    asked = server.asked[0]
    meta = json.loads(asked.headers["x-model-meta"])
    assert asked.path == f"/v1/groups/g/models?{KEY_QUERY}"
    assert asked.body == tiny.data
    assert asked.headers["x-model-runtime"] == "lightgbm"
    assert (meta["tags"], meta["metrics"]) == ({"städt": "ü"}, {"rmse": 1.5})
    assert meta["provenance"]["trained_through"] == "2026-11-19"
    assert {"trained_at", "libraries"} <= set(meta["provenance"])
    assert (registered.version, registered.created) == (3, True)


def version(number: int) -> dict[str, object]:
    """A model version as the server lists it."""
    return {
        "key": f"store={number}", "fields": {"store": str(number)}, "version": number, "digest": "d", "runtime": "onnx",
        "bytes": 1, "heap_bytes": 2, "tags": {}, "metrics": {}, "provenance": {}, "created": "2026-11-20T06:00:00.000Z",
        "withdrawn": False, "tombstone": False,
    }  # fmt: skip


def test_models_are_listed_page_by_page_until_the_cursor_ends():
    pages = iter([{"models": [version(1)], "cursor": "a=b"}, {"models": [version(2)], "cursor": None}])
    with serving(lambda asked: Reply(body=next(pages))) as server, Client(server.url) as client:
        found = list(client.models("g", {"store": 2}, tags={"region": "n w"}, page=1))
    assert [each.version for each in found] == [1, 2]
    assert [asked.path.partition("?")[2] for asked in server.asked] == [
        "store=2&tag.region=n%20w&limit=1",
        "store=2&tag.region=n%20w&limit=1&cursor=a%3Db",
    ]


def test_history_says_when_each_version_was_live():
    live = [{"deployment": "blue", "release": 1, "from": "2026-11-20T06:00:00.000Z", "to": None}]
    body = {"key": "k", "versions": [{**version(1), "live": live}]}
    with serving(lambda asked: Reply(body=body)) as server, Client(server.url) as client:
        (found,) = client.history("g", KEY)
    assert server.asked[0].path == f"/v1/groups/g/models/history?{KEY_QUERY}"
    assert found.live[0].start == datetime(2026, 11, 20, 6, tzinfo=UTC)
    assert found.live[0].end is None


def test_deleting_a_model_answers_the_number_of_its_tombstone():
    with (
        serving(lambda asked: Reply(body={"key": "k", "version": 5, "tombstone": True})) as server,
        Client(server.url) as client,
    ):
        assert client.delete_model("g", KEY) == 5
    assert (server.asked[0].method, server.asked[0].path) == ("DELETE", f"/v1/groups/g/models?{KEY_QUERY}")


def test_a_folder_is_imported_file_by_file_and_each_is_watched_to_its_end(tmp_path):
    for name in ("b.parquet", "a.parquet", "_temporary/c.parquet", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    states = iter(["proving", "publishing", "done"] * 2)
    seen = []

    def script(asked):
        if "/releases/" in asked.path:
            return Reply(body=RELEASE)
        return Reply(202, {**IMPORT, "state": next(states)})

    def progress(step):
        seen.append((step.path.name, step.index, step.files, step.record.state, step.releasing))

    with serving(script) as server, Client(server.url) as client:
        records = client.import_fleet("g", tmp_path, on_error="skip", progress=progress, pause=no_pause)
    sent = [asked for asked in server.asked if asked.method == "POST"]
    assert [asked.body for asked in sent] == [b"a.parquet", b"b.parquet"]
    assert sent[0].path == "/v1/groups/g/models/bulk?on_error=skip"
    assert sent[0].headers["content-type"] == "application/vnd.apache.parquet"
    assert [record.number for record in records] == [7, 7]
    assert [step[3:] for step in seen[:5]] == [
        ("proving", False), ("publishing", False), ("done", False), ("done", True), ("done", False),
    ]  # fmt: skip
    assert {step[:3] for step in seen} == {("a.parquet", 0, 2), ("b.parquet", 1, 2)}


def test_an_import_ends_when_its_release_is_built(tmp_path):
    file = tmp_path / "fleet.parquet"
    file.write_bytes(b"x")
    states = iter(["building", "building", "failed"])

    def script(asked):
        return Reply(body={**RELEASE, "state": next(states)} if "/releases/" in asked.path else IMPORT)

    with serving(script) as server, Client(server.url) as client:
        with pytest.raises(ReleaseRefusedError, match="could not be built"):
            client.import_fleet("g", file, pause=no_pause)
        assert server.asked[-1].path == "/v1/groups/g/releases/1"


def test_a_failed_import_names_its_first_rejected_rows(tmp_path):
    file = tmp_path / "fleet.parquet"
    file.write_bytes(b"x")
    reject = {"row": 3, "key": "store=2", "code": "artifact_invalid", "detail": "no LightGBM text", "field": None}

    def script(asked):
        if "rejects" in asked.path:
            return Reply(body={"rejects": [reject], "cursor": None})
        return Reply(202, {**IMPORT, "state": "failed", "rejected": 1, "error": None})

    with serving(script) as server, Client(server.url) as client, pytest.raises(ImportFailedError) as caught:
        client.import_fleet("g", file, pause=no_pause)
    assert "row 3 (store=2): no LightGBM text (artifact_invalid)" in str(caught.value)
    assert caught.value.rejects[0].row == 3


def test_nothing_to_import_is_told_before_anything_is_sent(tmp_path):
    with Client("http://127.0.0.1:9") as client:
        with pytest.raises(SourceNotFoundError, match="does not exist"):
            client.import_fleet("g", tmp_path / "none")
        with pytest.raises(SourceNotFoundError, match="holds no"):
            client.import_fleet("g", tmp_path)


def test_release_waits_until_it_is_built():
    states = iter(["building", "building", "building", "ready"])
    with serving(lambda asked: Reply(202, {**RELEASE, "state": next(states)})) as server, Client(server.url) as client:
        release = client.release("g", base=3, set=[(KEY, 2)], gates={"max_lost": 0}, pause=no_pause)
    assert server.asked[0].json == {"base": 3, "set": [{"key": KEY, "version": 2}], "gates": {"max_lost": 0}}
    assert [asked.path for asked in server.asked[1:]] == ["/v1/groups/g/releases/4"] * 3
    assert release.state == "ready"


def test_release_need_not_wait():
    with serving(lambda asked: Reply(202, {**RELEASE, "state": "building"})) as server, Client(server.url) as client:
        assert client.release("g", wait=False).state == "building"
    assert server.asked[0].json == {}


@pytest.mark.parametrize(("state", "said"), [("blocked", "blocked by a gate"), ("failed", "could not be built")])
def test_a_release_that_is_not_ready_is_an_error_with_its_record(state, said):
    body = {**RELEASE, "state": state, "report": {"lost": 3}}
    with (
        serving(lambda asked: Reply(202, body)) as server,
        Client(server.url) as client,
        pytest.raises(ReleaseRefusedError, match=f"{said} .3 lost.") as caught,
    ):
        client.release("g")
    assert caught.value.release.report == {"lost": 3}


def flips(asked):
    """A group with releases 4 (blocked), 3 (live, built on 2) and 2."""
    if asked.method == "PUT":
        return Reply(body={"deployments": asked.json, "kind": "promote", "withdrawn": 0}, headers={"etag": '"b"'})
    if asked.path.endswith("/deployments"):
        return Reply(body={"deployments": {"blue": {"release": 3, "traffic": 100}}}, headers={"ETag": '"a"'})
    if asked.path.endswith("/releases"):
        return Reply(body={"releases": [{**RELEASE, "state": "blocked"}, {**RELEASE, "number": 3}]})
    return Reply(body={**RELEASE, "number": 3, "base": 2})


def test_promote_takes_the_newest_release_that_is_ready():
    with serving(flips) as server, Client(server.url) as client:
        done = client.promote("g")
    assert server.asked[-1].json == {"blue": {"release": 3, "traffic": 100}}
    assert (done.live, done.kind, done.etag) == (3, "promote", '"b"')


def test_rollback_goes_to_the_release_the_live_one_replaced_if_nobody_moved_it():
    with serving(flips) as server, Client(server.url) as client:
        client.rollback("g")
    assert server.asked[-1].json == {"blue": {"release": 2, "traffic": 100}}
    assert server.asked[-1].headers["if-match"] == '"a"'


def test_rollback_refuses_to_go_forward():
    with serving(flips) as server, Client(server.url) as client, pytest.raises(NothingReadyError, match="promote"):
        client.rollback("g", to=4)
    assert all(asked.method == "GET" for asked in server.asked)


def test_promote_and_rollback_say_when_there_is_nothing_to_go_to():
    def script(asked):
        return Reply(body={"releases": []} if asked.path.endswith("releases") else {"deployments": {}})

    with serving(script) as server, Client(server.url) as client:
        with pytest.raises(NothingReadyError, match="build one"):
            client.promote("g")
        with pytest.raises(NothingReadyError, match="nothing is live"):
            client.rollback("g")


def test_holds_are_put_listed_and_taken_off():
    def script(asked):
        if asked.method == "DELETE":
            return Reply(204)
        return Reply(body={"holds": [HOLD]} if asked.method == "GET" else HOLD)

    with serving(script) as server, Client(server.url) as client:
        client.hold("g", KEY, "pin", version=1, reason="r", until=date(2026, 12, 1))
        assert client.holds("g")[0].action == "pin"
        client.unhold("g", KEY)
    assert server.asked[0].path == server.asked[2].path == f"/v1/groups/g/holds?{KEY_QUERY}"
    assert server.asked[0].json == {"action": "pin", "version": 1, "reason": "r", "author": "", "until": "2026-12-01"}


def test_lookup_names_the_group_and_the_key_in_the_query():
    body = {
        "group": "g", "key": "k", "shard": 1, "slot": 2, "release": 3, "deployment": "blue", "version": 1, "model_key": "k",
        "fallback_level": 0, "members": [{"id": "m", "uri": "local", "state": "alive"}], "revision": "e-1", "ttl": 5.0,
    }  # fmt: skip
    with serving(lambda asked: Reply(body=body)) as server, Client(server.url) as client:
        found = client.lookup("g", KEY)
    assert server.asked[0].path == f"/v1/discovery/lookup?group=g&{KEY_QUERY}"
    assert found.members[0].uri == "local"


def test_groups_are_created_listed_and_deleted():
    group = {"name": "g", "key": ["store"], "shard_by": ["store"], "fallback": [[]], "signature": {}, "auto_release": True, "suspended": False, "created": "2026-11-20T06:00:00.000Z"}  # fmt: skip
    live = {"deployment": "blue", "release": 1, "promoted": None, "age_seconds": 1.0, "models": 1, "bytes": 1}

    def script(asked):
        if asked.method == "DELETE":
            return Reply(204)
        if asked.path == "/v1/groups/g":
            return Reply(body={**group, "live": live, "models": 1, "holds": 0})
        return Reply(body={"groups": [group]} if asked.method == "GET" else group)

    signature = {"inputs": [{"name": "price"}], "outputs": [{"name": "sales"}]}
    with serving(script) as server, Client(server.url) as client:
        assert client.create_group("g", ["store"], signature, fallback=[[]]).name == "g"
        assert client.groups()[0].live is None
        assert client.group("g").live.release == 1
        client.delete_group("g", confirm="g")
    assert server.asked[0].json["fallback"] == [[]]
    assert server.asked[3].path == "/v1/groups/g?confirm=g"


def test_a_group_is_placed_and_what_is_not_said_is_not_sent():
    body = {"name": "g", "key": [], "shard_by": [], "fallback": [], "signature": {}, "auto_release": True, "suspended": False, "created": None, "replicas": 3, "pool": "gpu"}  # fmt: skip
    with serving(lambda asked: Reply(body=body)) as server, Client(server.url) as client:
        assert client.place_group("g", replicas=3).replicas == 3
        assert client.create_group("g", [], {}, pool="gpu").pool == "gpu"
        client.create_group("g", [], {})
    assert (server.asked[0].method, server.asked[0].path) == ("PUT", "/v1/groups/g/placement")
    assert server.asked[0].json == {"replicas": 3}
    assert server.asked[1].json["pool"] == "gpu"
    assert not {"replicas", "pool"} & set(server.asked[2].json)


def test_status_is_read_whole_and_fields_of_newer_servers_are_passed_over():
    live = {
        "deployment": "blue",
        "release": 1,
        "promoted": "2026-11-20T06:00:00.000Z",
        "age_seconds": 1.0,
        "models": 1,
        "bytes": 1,
    }
    group = {
        "name": "g",
        "live": live,
        "lost": 0,
        "stale": 2,
        "held": [HOLD],
        "shards": 1,
        "models": 1,
        "newest_release": RELEASE,
        "mood": 1,
    }
    cache = {"bytes": 1, "budget_bytes": 2, "models": 1, "hits": 1, "misses": 1, "evictions": 0}
    body = {
        "revision": "e-1",
        "groups": [group],
        "members": [{"id": "m", "uri": "u", "state": "alive"}],
        "cache": cache,
        "packs": {"bytes": 3_000_000, "budget_bytes": 8_000_000, "segments": 7, "mapped": 9, "unmapped": 2},
    }
    with serving(lambda asked: Reply(body=body)) as server, Client(server.url) as client:
        status = client.status()
    assert (status.groups[0].stale, status.groups[0].held[0].key, status.cache.budget_bytes) == (2, "store=2", 2)


def test_an_answer_that_lacks_a_field_says_so_instead_of_breaking_later():
    with (
        serving(lambda asked: Reply(body={"revision": "e-1"})) as server,
        Client(server.url) as client,
        pytest.raises(ServerFaultError, match="CacheStatus should be an object"),
    ):
        client.status()


def test_the_address_comes_from_the_environment_when_none_is_given(monkeypatch):
    with serving(lambda asked: Reply(body={"groups": []})) as server:
        monkeypatch.setenv("MANYMODELS_URL", server.url)
        with Client() as client:
            assert client.groups() == []


def test_a_lookup_is_explained_where_that_is_asked_for():
    body = {
        "group": "g", "key": "store=2", "shard": 0, "slot": 1, "release": 3, "deployment": "blue", "version": 1,
        "model_key": "", "fallback_level": 1, "members": [], "revision": "e-1", "ttl": 5.0,
        "explanation": [{"id": "w", "uri": "http://w", "state": "dead", "rank": None, "reason": "dead", "seat": "s",
                         "zone": "", "score": 0.5}],
    }  # fmt: skip
    with serving(lambda asked: Reply(body=body)) as server, Client(server.url) as client:
        found = client.lookup("g", KEY, explain=True)
    assert server.asked[0].path == f"/v1/discovery/lookup?group=g&explain=true&{KEY_QUERY}"
    assert [(one.seat, one.reason) for one in found.explanation] == [("s", "dead")]
