"""Whoever waits for a turn gets it before those that came later."""

import threading

from registry.turns import Turns
from tests.support.waiting import until


def waiting(turns, count):
    """Wait until so many stand in line."""
    until(lambda: len(turns._waiting) >= count, 30, "a place in line")


def test_turns_are_given_in_the_order_they_were_asked_for():
    turns, order = Turns(), []

    def work(number):
        assert turns.acquire(30)
        order.append(number)
        turns.release()

    assert turns.acquire(0)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for count, thread in enumerate(threads, 1):
        thread.start()
        waiting(turns, count)
    turns.release()
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3, 4]


def test_who_has_just_had_a_turn_stands_behind_those_that_wait():
    turns, order = Turns(), []

    def other():
        assert turns.acquire(30)
        order.append("other")
        turns.release()

    assert turns.acquire(0)
    thread = threading.Thread(target=other)
    thread.start()
    waiting(turns, 1)
    turns.release()
    assert turns.acquire(30)
    order.append("again")
    turns.release()
    thread.join(30)
    assert order == ["other", "again"]


def test_who_has_waited_too_long_holds_up_nobody():
    turns = Turns()
    assert turns.acquire(0)
    assert not turns.acquire(0.01)
    turns.release()
    assert turns.acquire(0)
    turns.release()
