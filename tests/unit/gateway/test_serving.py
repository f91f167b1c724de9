"""The parent of `serve` and its children: none spins, and none outlives the other."""

import os
import signal
import subprocess
import sys
import threading

from gateway import serving
from gateway.roles import SERVE
from gateway.settings import Settings
from registry.home import Home


class Dead:
    """A child that has ended: its sentinel is always ready."""

    pid = None
    exitcode = 1

    def __init__(self):
        self.sentinel, writer = os.pipe()
        os.close(writer)

    def is_alive(self):
        return False


class Stopping(threading.Event):
    """An event that notes how long it was waited for, and does not wait."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait(self, timeout=None):
        self.waits.append(timeout)
        return False


def test_the_parent_rests_between_looks_at_a_child_that_died_a_moment_ago(tmp_path, monkeypatch):
    supervisor = serving._Supervisor(SERVE, Home(tmp_path), Settings(), None, "http://x", 1)
    supervisor._stopping = Stopping()
    child = Dead()
    supervisor._children["server-0"] = child
    supervisor._started["server-0"] = serving.time.monotonic()
    monkeypatch.setattr(serving, "CALM_SECONDS", 60.0)
    supervisor._replace_dead()
    os.close(child.sentinel)
    assert supervisor._stopping.waits == [serving.LOOK_SECONDS]
    assert supervisor._children == {"server-0": child}


PARENT = """
import multiprocessing, signal, time
from gateway.children import end_with_parent

def orphaned():
    multiprocessing.parent_process().join()
    end_with_parent()
    signal.pause()

process = multiprocessing.get_context("fork").Process(target=orphaned)
process.start()
print(process.pid, flush=True)
time.sleep(60)
"""


def test_a_child_whose_parent_ended_before_it_could_ask_ends_too():
    # The child asks only when its parent is gone. It holds the parent's output too, which ends when both have.
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
        try:
            assert parent.communicate(timeout=20) == (b"", None)
        except subprocess.TimeoutExpired:
            os.kill(child, signal.SIGKILL)
            raise
