"""A child may be lost at any moment; the pool goes on, and whoever asked is told."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.toy_runtimes import PREPARE
from tests.support.waiting import until
from workers.children.pool import MOST_JOBS, ChildDiedError, ChildPool

JOB = "tests.support.toy_runtimes:process_id"


@pytest.fixture
def pool():
    pool = ChildPool(1, prepare=PREPARE, deadline=60.0, memory_bytes=1 << 30)
    yield pool
    pool.close()


def _child_of(pool) -> int:
    return int(next(iter(list(pool.run(JOB, b"", b"")))))


def _gone(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # dead; init has yet to take it


def test_a_child_is_used_again(pool):
    assert _child_of(pool) == _child_of(pool)


def test_a_child_that_died_while_idle_is_replaced_unnoticed(pool):
    first = _child_of(pool)
    os.kill(first, signal.SIGKILL)
    until(lambda: _gone(first), 10, "the end of the child")
    assert _child_of(pool) != first


def test_a_late_answer_ends_the_child():
    pool = ChildPool(1, prepare=PREPARE, deadline=0.2, memory_bytes=1 << 30)
    answers = pool.run(JOB, b"", b"wait")
    process = int(next(answers))
    with pytest.raises(ChildDiedError, match=r"within 0\.2 seconds") as death:
        next(answers)
    assert death.value.hung
    until(lambda: _gone(process), 10, "the end of the child")
    pool.close()


def test_a_reader_that_stops_early_loses_only_the_child(pool):
    answers = pool.run(JOB, b"", b"wait")
    process = int(next(answers))
    answers.close()
    until(lambda: _gone(process), 10, "the end of the child")
    assert _child_of(pool) != process


def test_an_interrupt_of_the_terminal_leaves_children_alone(pool):
    process = _child_of(pool)
    os.kill(process, signal.SIGINT)
    assert _child_of(pool) == process


def test_children_have_one_thread_and_write_no_files(pool):
    answer = next(iter(list(pool.run("tests.support.toy_runtimes:environment", b"", b""))))
    assert answer == b"(['python'], [0, 0])"


def test_what_is_imported_is_not_of_the_memory_that_a_job_may_allocate():
    size = 256 << 20
    pool = ChildPool(1, prepare=PREPARE, deadline=60.0, memory_bytes=size)
    answers = list(pool.run("tests.support.toy_runtimes:import_much", b"", str(size).encode()))
    assert answers == [b"imported", b"too much"]
    pool.close()


def test_a_runtime_is_imported_in_a_time_of_its_own(pool):
    assert list(pool.run("tests.support.toy_runtimes:find_twice", b"", b"")) == [b"[0, 1, 1]"]


def test_close_ends_all_children_and_the_pool_can_be_used_again(pool):
    first = _child_of(pool)
    pool.close()
    until(lambda: _gone(first), 10, "the end of the child")
    assert _child_of(pool) != first


@pytest.mark.parametrize("payload", ["", "wait"])
def test_children_die_with_the_builder_at_work_or_idle(payload):
    script = (
        "import os, signal\n"
        "from workers.children.pool import ChildPool\n"
        f"pool = ChildPool(1, prepare={PREPARE!r}, deadline=20.0, memory_bytes=1 << 30)\n"
        f"answers = pool.run({JOB!r}, b'', {payload.encode()!r})\n"
        "print(next(answers).decode(), flush=True)\n"
        f"{'' if payload else 'list(answers)'}\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=Path.cwd(), timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    until(lambda: _gone(int(done.stdout)), 10, "the end of the child")


def test_a_child_that_did_many_jobs_is_retired(pool):
    first = _child_of(pool)
    for _ in range(MOST_JOBS - 1):
        assert _child_of(pool) == first
    assert _child_of(pool) != first
    until(lambda: _gone(first), 10, "the end of the child")
