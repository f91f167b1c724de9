"""What is done aside holds nobody up, is done in turn, and goes on after a failure."""

import threading

import pytest

from discovery.consul.aside import Aside
from tests.support.waiting import until


@pytest.fixture
def aside():
    made = Aside("tests")
    yield made
    made.stop()


@pytest.fixture
def held_up(aside):
    """Work named `a` that has begun and goes on until the event is set."""
    begun, going_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert going_on.wait(30)

    aside.ask("a", work)
    assert begun.wait(30)
    yield going_on
    going_on.set()


def test_of_what_is_asked_under_one_name_meanwhile_only_the_last_is_done(aside, held_up):
    done = []
    for number in range(3):
        aside.ask("a", lambda number=number: done.append(("a", number)))
        aside.ask("b", lambda number=number: done.append(("b", number)))
    held_up.set()
    until(lambda: len(done) == 2, 10)
    assert done == [("a", 2), ("b", 2)]


def test_what_is_forgotten_is_not_begun_and_what_is_under_way_is_waited_for(aside, held_up):
    done = []
    aside.ask("a", lambda: done.append("a"))
    ending = threading.Timer(0.05, held_up.set)
    ending.start()
    aside.forget("a", 30)
    assert held_up.is_set()
    aside.ask("b", lambda: done.append("b"))
    until(lambda: done == ["b"], 10)


def test_what_hangs_is_waited_for_no_longer_than_is_said(aside, held_up):
    aside.forget("a", 0.01)
    assert not held_up.is_set()


def test_work_that_fails_is_counted_and_the_next_is_done(aside, caplog):
    done = threading.Event()
    for _ in range(2):
        failed = aside.failures
        aside.ask("a", lambda: 1 / 0)
        until(lambda failed=failed: aside.failures > failed, 10)
    aside.ask("a", done.set)
    assert done.wait(10)
    assert len([record for record in caplog.records if "ZeroDivisionError" in record.message]) == 1


def test_after_its_end_nothing_is_begun(aside, held_up):
    done = []
    aside.ask("b", lambda: done.append("b"))
    aside.stop()
    aside.ask("b", lambda: done.append("b"))
    held_up.set()
    until(lambda: not aside._thread.is_alive(), 10)
    assert done == []
