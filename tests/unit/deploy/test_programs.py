"""A program that is started here is stopped, killed and frozen as a whole, and says why it did not come up."""

import sys
from pathlib import Path

import pytest

from deploy.local import installed
from deploy.local.programs import MissingError, Program, StartError
from tests.support.processes import descendants, living
from tests.support.waiting import until

WITH_CHILD = """
import pathlib, signal, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
pathlib.Path(sys.argv[1]).write_text("up")
time.sleep(600)
"""

WITH_THREADS = """
import hashlib, pathlib, sys, threading

def work():
    while True:
        hashlib.sha256(bytes(1 << 20))

for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
pathlib.Path(sys.argv[1]).write_text("up")
threading.Event().wait(60)
"""


class Scripted(Program):
    """A Python script, which is up when it has written a file."""

    address = ""

    def __init__(self, folder, script):
        super().__init__("scripted", folder / "log")
        self._script, self._file = script, folder / "up"

    def _command(self):
        return [sys.executable, "-c", self._script, str(self._file)]

    def _answers(self):
        return self._file.exists()


@pytest.fixture
def running(tmp_path):
    program = Scripted(tmp_path, WITH_CHILD)
    program.start()
    yield program
    program.kill()


def family(program):
    return {program.pid} | descendants(program.pid)


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_program_is_killed_with_all_that_it_started_and_starts_again(running):
    before = family(running)
    assert len(before) == 2
    running.kill()
    assert not running.is_running
    until(lambda: living(before) == set(), 10, "their end")
    running.start()
    assert running.is_running
    assert running.pid not in before


def test_a_frozen_program_goes_on_and_even_frozen_it_can_be_stopped_in_order(running):
    running.freeze()
    until(lambda: {state(pid) for pid in family(running)} == {"T"}, 10, "their rest")
    assert running.is_running
    running.thaw()
    until(lambda: "T" not in {state(pid) for pid in family(running)}, 10, "their going on")
    running.freeze()
    assert running.stop() == 7


def test_no_thread_of_a_frozen_program_goes_on_by_the_time_it_is_said_to_be(tmp_path):
    program = Scripted(tmp_path, WITH_THREADS)
    program.start()
    try:
        for _ in range(20):
            program.freeze()
            assert {state(f"{program.pid}/task/{thread.name}") for thread in threads(program)} == {"T"}
            program.thaw()
    finally:
        program.kill()


def threads(program):
    return Path(f"/proc/{program.pid}/task").iterdir()


def test_a_program_that_does_not_come_up_is_refused_with_its_last_words(tmp_path):
    program = Scripted(tmp_path, "import sys; sys.exit('no such port')")
    with pytest.raises(StartError, match=r"scripted ended with 1: no such port"):
        program.start()


@pytest.mark.parametrize("find", [installed.postgres_programs, installed.consul_binary, installed.rclone_binary])
def test_a_server_that_is_not_installed_is_told_with_what_to_install(find, tmp_path, monkeypatch):
    monkeypatch.setenv("MANYMODELS_TEST_POSTGRES", str(tmp_path))
    monkeypatch.delenv("MANYMODELS_TEST_CONSUL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(MissingError, match="install"):
        find()
