"""`make cluster`: a whole cluster comes up from nothing, answers, and leaves nothing behind."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.installed import consul_binary, postgres_programs, rclone_binary
from manymodels import Client
from tests.support.installed import needed
from tests.support.processes import descendants, living

KEY = {"region": "north", "store": "1", "brand": "citra"}
ROW = {"price": 2.49, "promotion": "flyer", "week": 27, "trend": 160}
GROUP = "retail-lightgbm"
STOP_SECONDS = 60


@pytest.fixture
def cluster():
    """The process that `make cluster` runs, with the smallest fleet there is."""
    needed(lambda: (postgres_programs(), consul_binary(), rclone_binary()))
    command = [sys.executable, "-m", "deploy.local", "--json", "--stores", "4", "--group", GROUP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as running:
        yield running
        if running.poll() is None:
            running.terminate()


def test_a_cluster_on_one_machine_comes_up_answers_and_leaves_nothing_behind_after_ctrl_c(cluster):
    line = cluster.stdout.readline()
    assert line, f"it ended with {cluster.wait(STOP_SECONDS)}"
    programs = {each["name"]: each for each in json.loads(line)["programs"]}
    started = descendants(cluster.pid)
    assert {each["pid"] for each in programs.values()} <= started
    for name in ("gateway-1", "gateway-2"):
        with Client(programs[name]["address"]) as client:
            answer = client.predict(GROUP, KEY, [ROW])
            assert (answer.model.fallback_level, answer.predictions) == (0, json.loads(line)["answer"]["predictions"])
    cluster.send_signal(signal.SIGINT)
    assert cluster.wait(STOP_SECONDS) == 0
    assert living(started) == set()
    assert not any(Path(each["log"]).parent.exists() for each in programs.values())


def test_without_a_server_it_says_what_to_install_and_starts_nothing(tmp_path):
    missing = {"PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local"],
        env=missing,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "there is no Consul: install it" in done.stdout
    assert list(tmp_path.glob("manymodels-*")) == []
