"""The command line against a scripted server: what it asks, prints, and with which code it ends."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from manymodels.cli.entry import hoisted
from manymodels.cli.main import app
from tests.support import models
from tests.support.scripted_server import Reply, problem, serving

RELEASE = {"number": 4, "state": "ready", "base": 3, "models": 2, "bytes": 2_000_000, "report": {"added": 1, "lost": 0}, "created": "2026-11-20T06:00:00.000Z", "ready": None}  # fmt: skip
HOLD = {"key": "store=2", "action": "disable", "version": None, "reason": "negative answers", "author": "a", "created": "2026-11-20T06:00:00.000Z", "until": None}  # fmt: skip
USE = {"key": "store=2", "version": 1, "release": 3, "deployment": "blue", "fallback_level": 1, "trained_through": None}
GROUP = {"name": "g", "key": ["store"], "shard_by": ["store"], "fallback": [[]], "signature": {"inputs": [{"name": "price", "dtype": "float64"}], "outputs": [{"name": "sales", "kind": "value"}]}, "auto_release": True, "suspended": False, "created": "2026-11-20T06:00:00.000Z"}  # fmt: skip
IMPORT = {"import": 7, "state": "done", "on_error": "fail", "rows": 2, "proved": 2, "registered": 2, "unchanged": 0, "rejected": 0, "release": 1, "error": None, "created": "2026-11-20T06:00:00.000Z", "finished": None}  # fmt: skip


def run(*words, stdin=None):
    """The result of a command line."""
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(words), input=stdin)


def answered(reply, *words, stdin=None):
    """The result of a command line against a server with one answer, and what it was asked."""
    with serving(lambda asked: reply) as server:
        result = run(*words, "--url", server.url, stdin=stdin)
    return result, server.asked


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["status", "--json"], ["--json", "status"]),
        (["status", "--url", "u", "x"], ["--url", "u", "status", "x"]),
        (["serve", "--home=h", "--port", "1"], ["--home=h", "serve", "--port", "1"]),
        (["predict", "--", "--json"], ["predict", "--", "--json"]),
        (["status", "--url"], ["--url", "status"]),
    ],
)
def test_global_options_may_stand_anywhere_before_a_double_dash(given, read):
    assert hoisted(given) == read


def test_the_version_is_printed():
    result = run("--version")
    assert (result.exit_code, result.stdout.split()[0]) == (0, "manymodels")


def test_a_mistyped_command_is_answered_with_the_nearest_one():
    result = run("statsu")
    assert result.exit_code == 2
    assert "Did you mean 'status'" in result.stderr


def test_no_server_ends_with_3_and_says_how_to_start_one():
    result = run("status", "--url", "http://127.0.0.1:9")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "manymodels serve" in result.stderr


def test_a_refusal_ends_with_1_and_says_what_to_do():
    result, _ = answered(problem(404, "group_not_found", "there is no group 'g'"), "group", "show", "g")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no group 'g' (group_not_found)" in result.stderr
    assert "hint: `manymodels group list`" in result.stderr


def test_a_refusal_is_json_on_stderr_for_machines():
    result, _ = answered(problem(404, "group_not_found", "no"), "group", "show", "g", "--json")
    assert result.stdout == ""
    error = json.loads(result.stderr)["error"]
    assert (error["code"], error["status"], error["detail"], error["request_id"]) == (
        "group_not_found",
        404,
        "no",
        "r-1",
    )


def test_wrong_usage_ends_with_2():
    for words in (
        ["predict", "g", "store", "--row", "[1]"],
        ["predict", "g", "store=1"],
        ["predict", "g", "store=1", "--row", "{"],
        ["predict", "g", "store=1", "store=2", "--row", "[1]"],
        ["hold", "g", "pin", "store=1", "--reason", "r"],
        ["hold", "g", "stop", "store=1", "--reason", "r"],
        ["release", "g", "--set", "store=1"],
        ["import", "g", "x.parquet", "--on-error", "maybe"],
        ["status", "--home", "/nowhere/at/all"],
        ["lookup", "g", "store="],
    ):
        result = run(*words)
        assert result.exit_code == 2, (words, result.output)


def test_predict_sends_key_values_as_they_stand_and_prints_which_model_answered():
    reply = Reply(body={"predictions": [9.1, [0.1, 0.9]], "model": USE})
    result, asked = answered(
        reply, "predict", "g", "store=a/b=%2F", "--row", '{"price": 1}', "--row", "[2]", "--max-fallback-level", "1"
    )
    assert asked[0].json == {"key": {"store": "a/b=%2F"}, "instances": [{"price": 1}, [2]], "max_fallback_level": 1}
    assert result.exit_code == 0
    assert "store=2, version 1, release 3, fallback level 1" in result.stdout
    assert "9.1" in result.stdout
    assert "[0.1,0.9]" in result.stdout


def test_predict_reads_rows_from_standard_input():
    reply = Reply(body={"predictions": [9.1], "model": USE})
    _, asked = answered(reply, "predict", "g", "store=2", "--rows", "-", stdin='[{"price": 1}]')
    assert asked[0].json["instances"] == [{"price": 1}]


def test_a_bulk_prints_each_row_or_its_problem(tmp_path):
    file = tmp_path / "bulk.json"
    file.write_text('{"columns": ["store"], "data": [["2"], ["3"]]}')
    body = {"predictions": [9.1, None], "fallback_level": [0, None], "releases": {"blue": 3}, "errors": [{"row": 1, "code": "partition_not_found", "detail": "no [model]"}]}  # fmt: skip
    result, asked = answered(Reply(body=body), "predict", "g", "--bulk", str(file))
    assert asked[0].path == "/v1/groups/g/predict/bulk"
    assert "blue: release 3" in result.stdout
    assert "no [model] (partition_not_found)" in result.stdout


def test_json_output_is_one_document_on_stdout():
    result, _ = answered(
        Reply(body={"predictions": [9.1], "model": USE}), "--json", "predict", "g", "store=2", "--row", "[1]"
    )
    assert json.loads(result.stdout)["model"]["release"] == 3


def test_register_sends_a_file_with_everything_said_of_it(tmp_path):
    file = tmp_path / "model.txt"
    file.write_bytes(models.lightgbm_regressor().data)
    made = {"key": "store=2", "version": 3, "digest": "d" * 64, "created": True}
    result, asked = answered(
        Reply(201, made), "register", "g", str(file), "store=2", "--tag", "region=nw", "--metric", "rmse=1.5",
        "--provenance", "run=7", "--trained-through", "2026-11-19",
    )  # fmt: skip
    meta = json.loads(asked[0].headers["x-model-meta"])
    assert asked[0].path == "/v1/groups/g/models?store=2"
    assert asked[0].headers["x-model-runtime"] == "lightgbm"
    assert (meta["tags"], meta["metrics"]) == ({"region": "nw"}, {"rmse": 1.5})
    assert {"run": "7", "trained_through": "2026-11-19"}.items() <= meta["provenance"].items()
    assert "store=2: new version 3" in result.stdout


def test_registering_for_the_whole_group_must_be_said(tmp_path):
    file = tmp_path / "model.txt"
    file.write_bytes(models.lightgbm_regressor().data)
    assert run("register", "g", str(file)).exit_code == 2
    _, asked = answered(
        Reply(201, {"key": "", "version": 1, "digest": "d", "created": True}),
        "register",
        "g",
        str(file),
        "--whole-group",
    )
    assert asked[0].path == "/v1/groups/g/models"


def test_a_group_is_created_from_options():
    _, asked = answered(
        Reply(201, GROUP), "group", "create", "g", "--key", "store", "--key", "brand", "--input", "price", "--input",
        "feat:int64=0", "--input", "kind:string?=null", "--output", "risk:probabilities=1,2", "--fallback", "brand",
        "--whole-group", "--no-auto-release",
    )  # fmt: skip
    assert asked[0].json == {
        "name": "g",
        "key": ["store", "brand"],
        "signature": {
            "inputs": [
                {"name": "price", "dtype": "float64"},
                {"name": "feat", "dtype": "int64", "default": 0},
                {"name": "kind", "dtype": "string", "nullable": True, "default": None},
            ],
            "outputs": [{"name": "risk", "kind": "probabilities", "classes": [1, 2]}],
        },
        "fallback": [["brand"], []],
        "shard_by": [],
        "auto_release": False,
    }


def test_a_group_is_created_from_a_file():
    definition = {"key": ["store"], "signature": GROUP["signature"], "fallback": [[]]}
    result, asked = answered(Reply(201, GROUP), "group", "create", "g", "--file", "-", stdin=json.dumps(definition))
    assert asked[0].json["signature"] == GROUP["signature"]
    assert "price:float64" in result.stdout


def test_deleting_a_group_asks_for_its_name():
    result, asked = answered(Reply(204), "group", "delete", "g", stdin="g\n")
    assert (result.exit_code, asked[0].path) == (0, "/v1/groups/g?confirm=g")


def test_import_tells_the_counts_of_each_file(tmp_path):
    file = tmp_path / "fleet.parquet"
    file.write_bytes(b"PAR1")
    unreleased = {**IMPORT, "release": None}
    result, asked = answered(
        Reply(202, unreleased), "import", "g", str(file), "--on-error", "skip", "--runtime", "lightgbm"
    )
    assert asked[0].path == "/v1/groups/g/models/bulk?on_error=skip"
    assert asked[0].headers["x-model-runtime"] == "lightgbm"
    assert "done" in result.stdout
    assert "fleet.parquet" in result.stderr


def test_a_release_names_versions_in_canonical_form():
    result, asked = answered(
        Reply(202, RELEASE), "release", "g", "--base", "3", "--set", "store=a%2Fb/brand=x@7", "--max-lost", "0"
    )
    assert asked[0].json == {
        "base": 3,
        "set": [{"key": {"store": "a/b", "brand": "x"}, "version": 7}],
        "gates": {"max_lost": 0},
    }
    assert "manymodels promote g 4" in result.stderr


def test_a_blocked_release_ends_with_1():
    result, _ = answered(Reply(202, {**RELEASE, "state": "blocked", "report": {"lost": 3}}), "release", "g")
    assert result.exit_code == 1
    assert "blocked by a gate (3 lost)" in result.stderr


def test_promote_and_rollback_say_what_they_did():
    flip = {"deployments": {"blue": {"release": 4, "traffic": 100}}, "kind": "promote", "withdrawn": 0}
    result, asked = answered(Reply(body=flip), "promote", "g", "4")
    assert asked[0].json == {"blue": {"release": 4, "traffic": 100}}
    assert "release 4 is live" in result.stdout


def test_a_hold_names_its_author_and_reason():
    result, asked = answered(Reply(body=HOLD), "hold", "g", "disable", "store=2", "--reason", "negative answers", "--author", "a", "--until", "2026-12-01")  # fmt: skip
    assert asked[0].json == {"action": "disable", "reason": "negative answers", "author": "a", "until": "2026-12-01"}
    assert "negative answers" in result.stdout


def test_status_shows_live_release_age_lost_stale_held_shards_cache_and_members():
    live = {
        "deployment": "blue",
        "release": 4,
        "promoted": None,
        "age_seconds": 7300.0,
        "models": 249,
        "bytes": 2_500_000,
    }
    group = {
        "name": "oj",
        "live": live,
        "lost": 3,
        "stale": 11,
        "held": [HOLD],
        "shards": 16,
        "models": 250,
        "newest_release": RELEASE,
    }
    cache = {"bytes": 1_000_000, "budget_bytes": 64_000_000, "models": 20, "hits": 90, "misses": 10, "evictions": 5}
    body = {
        "revision": "e-1",
        "groups": [group],
        "members": [{"id": "m-1", "uri": "http://h:1", "state": "alive"}],
        "cache": cache,
        "packs": {"bytes": 3_000_000, "budget_bytes": 8_000_000, "segments": 7, "mapped": 9, "unmapped": 2},
    }
    result, _ = answered(Reply(body=body), "status")
    for text in (
        "oj",
        "4 (ready)",
        "2 h",
        "249",
        "2.5 MB",
        "3",
        "11",
        "16",
        "m-1",
        "alive",
        "90.0% of 100 hit",
        "negative answers",
    ):
        assert text in result.stdout, text


def test_models_are_narrowed_by_key_fields_and_tags_and_limited():
    version = {"key": "store=2", "fields": {"store": "2"}, "version": 1, "digest": "d", "runtime": "onnx", "bytes": 1, "heap_bytes": 2, "tags": {}, "metrics": {}, "provenance": {}, "created": "2026-11-20T06:00:00.000Z", "withdrawn": True, "tombstone": False}  # fmt: skip
    result, asked = answered(
        Reply(body={"models": [version, version], "cursor": None}),
        "models",
        "g",
        "store=2",
        "--tag",
        "a=b",
        "--limit",
        "1",
    )
    assert asked[0].path == "/v1/groups/g/models?store=2&tag.a=b&limit=2"
    assert "withdrawn" in result.stdout
    assert "--limit shows more" in result.stderr


def test_starting_loads_no_server_and_no_modelling_library():
    code = "import sys, manymodels.cli.main; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    assert not loaded & {
        "numpy",
        "pandas",
        "pyarrow",
        "lightgbm",
        "sklearn",
        "onnx",
        "urllib3",
        "gateway",
        "workers",
        "sqlalchemy",
    }


def test_the_light_install_says_what_to_install_for_the_server(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['pydantic_settings'] = None\n"  # as if it were not installed
        "from manymodels.cli.main import main\n"
        f"sys.argv = ['manymodels', 'serve', '--home', {str(tmp_path)!r}]\n"
        "main()"
    )
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "pip install 'manymodels[server]'" in run.stderr


def test_group_place_says_how_many_workers_of_which_pool_hold_each_shard():
    placed = {**GROUP, "replicas": 3, "pool": "gpu"}
    result, asked = answered(Reply(body=placed), "group", "place", "g", "--replicas", "3", "--pool", "gpu")
    assert result.exit_code == 0
    assert "3, of the pool gpu" in result.stdout
    assert (asked[0].path, asked[0].json) == ("/v1/groups/g/placement", {"replicas": 3, "pool": "gpu"})


def test_group_place_that_says_nothing_is_refused():
    result = run("group", "place", "g")
    assert result.exit_code == 2
    assert "--replicas" in result.stderr


def test_lookup_explain_shows_how_every_member_stands():
    member = {"id": "w-1", "uri": "http://w", "state": "alive"}
    told = {**member, "rank": 1, "reason": "former, until the new have it", "seat": "s7", "zone": "z", "score": 0.5}
    body = {
        "group": "g", "key": "store=2", "shard": 0, "slot": 1, "release": 3, "deployment": "blue", "version": 1,
        "model_key": "", "fallback_level": 1, "members": [member], "revision": "e-1", "ttl": 5.0,
        "explanation": [told, {**told, "rank": None, "reason": "not assigned"}],
    }  # fmt: skip
    result, asked = answered(Reply(body=body), "lookup", "g", "store=2", "--explain")
    assert result.exit_code == 0
    assert "explain=true" in asked[0].path
    for said in ("s7", "former, until the new have it", "not assigned"):
        assert said in result.stdout
    assert "not assigned" not in answered(Reply(body={**body, "explanation": None}), "lookup", "g", "store=2")[0].stdout
