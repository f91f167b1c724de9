"""The demo, from an empty folder to answers that agree with the native libraries."""

import json
import subprocess
import sys

import pytest


@pytest.mark.timeout(600)  # a busy machine is slow, not wrong
def test_the_demo_agrees_with_the_native_libraries_and_leaves_nothing_running(tmp_path):
    command = [
        sys.executable,
        "-m",
        "manymodels",
        "demo",
        "--once",
        "--json",
        "--stores",
        "4",
        "--home",
        tmp_path / "home",
    ]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=580)
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert len(said["agreements"]) == 9
    assert all(each["wrong"] == [] and each["fallbacks"] > 0 for each in said["agreements"])
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "home")], check=False, capture_output=True, text=True)
    assert left.stdout == ""
