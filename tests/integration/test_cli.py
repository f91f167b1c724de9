"""The command line over a real home, without a server: the same commands, the same application."""

import json
import socket

import pytest
from typer.testing import CliRunner

from manymodels.cli.main import app
from manymodels.cli.served import StartError, serving
from tests.support import models

KEY = ["store=a/b=%2F 🍊"]


def run(home, *words, stdin=None):
    """The result of a command over a home."""
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--home", str(home)], input=stdin)


def answer(home, *words):
    """The JSON that a successful command prints."""
    result = run(home, "--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def home(tmp_path):
    """A home with one group that falls back to the whole group."""
    made = run(tmp_path / "home", "group", "create", "g", "--key", "store", "--input", "price", "--input", "feat:float64=0", "--output", "sales", "--whole-group")  # fmt: skip
    assert made.exit_code == 0, made.output
    return tmp_path / "home"


@pytest.fixture
def artifact(tmp_path):
    """A model file and what it answers for price 1.5, feat 0."""
    tiny = models.lightgbm_regressor()
    path = tmp_path / "model.txt"
    path.write_bytes(tiny.data)
    return path, tiny.native.predict([[1.5, 0.0]])[0]


def test_a_model_is_registered_live_held_and_predicted_without_a_server(home, artifact):
    path, expected = artifact
    assert answer(home, "register", "g", str(path), *KEY, "--trained-through", "2026-11-19")["version"] == 1
    assert answer(home, "predict", "g", *KEY, "--row", '{"price": 1.5}')["predictions"] == [expected]
    assert answer(home, "history", "g", *KEY)[0]["provenance"]["trained_through"] == "2026-11-19"
    assert answer(home, "lookup", "g", *KEY)["release"] == 1
    assert answer(home, "hold", "g", "disable", *KEY, "--reason", "r", "--author", "a")["action"] == "disable"
    refused = run(home, "predict", "g", *KEY, "--row", '{"price": 1.5}')
    assert (refused.exit_code, "partition_not_found" in refused.stderr) == (1, True)
    assert run(home, "unhold", "g", *KEY).exit_code == 0
    assert answer(home, "predict", "g", *KEY, "--row", "[1.5, 0]")["predictions"] == [expected]
    assert [group["live"]["release"] for group in answer(home, "status")["groups"]] == [1]


def test_releases_are_built_named_promoted_and_rolled_back_without_a_server(home, artifact):
    path, _ = artifact
    answer(home, "register", "g", str(path), *KEY)
    answer(home, "delete", "g", *KEY)
    blocked = run(home, "release", "g", "--max-lost", "0")
    assert (blocked.exit_code, "blocked by a gate" in blocked.stderr) == (1, True)
    release = answer(home, "release", "g", "--promote")
    assert release["report"]["lost"] == 1
    back = answer(home, "rollback", "g", "--to", "1")
    assert (back["kind"], back["deployments"]["blue"]["release"]) == ("rollback", 1)
    assert answer(home, "group", "show", "g")["suspended"]
    assert [each["state"] for each in answer(home, "releases", "g")] == ["ready", "blocked", "ready"]


def test_gc_shows_and_removes_nothing_that_is_needed(home, artifact):
    path, expected = artifact
    answer(home, "register", "g", str(path), *KEY)
    for how in ("--dry-run", "--apply"):
        assert answer(home, "gc", how)["objects"] == []
    assert answer(home, "predict", "g", *KEY, "--row", "[1.5, 0]")["predictions"] == [expected]


def test_a_home_that_does_not_exist_is_not_made_by_asking(tmp_path):
    for words in (["status"], ["gc", "--dry-run"], ["group", "list"]):
        result = run(tmp_path / "none", *words)
        assert (result.exit_code, "there is no home" in result.stderr) == (2, True)
    assert not (tmp_path / "none").exists()


def test_a_busy_port_is_refused_naming_the_option(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with serving(tmp_path / "home", port) as served, pytest.raises(StartError, match="--port"):
            served.url()
