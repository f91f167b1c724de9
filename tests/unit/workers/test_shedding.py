"""How much may lie before a request, and how much goes together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.shedding import SHORT_SECONDS, TURN_SECONDS, Gate, Pace, Patience, Step


def test_a_rush_may_queue_up_to_the_limit():
    patience = Patience(0.5)
    assert all(patience.admits(ahead / 100) for ahead in range(51))
    assert not patience.admits(0.51)


def test_after_a_refusal_only_little_may_lie_before_a_request_until_the_queue_was_empty_once():
    patience = Patience(0.5)
    assert not patience.admits(0.6)
    assert patience.admits(SHORT_SECONDS)
    assert not patience.admits(0.1)
    patience.calm()
    assert patience.admits(0.0)
    assert patience.admits(0.1)


def test_a_limit_shorter_than_the_short_one_refuses_nobody_who_hardly_waits():
    assert Patience(0.001).admits(SHORT_SECONDS)


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=100), st.floats(0.001, 1))
def test_who_waits_less_than_the_short_limit_is_always_taken_and_who_waits_longer_than_the_long_one_never(steps, most):
    patience = Patience(most)
    for ahead, empty in steps:
        if empty:
            patience.calm()
        taken = patience.admits(0.0 if empty else ahead)
        assert taken or ahead > SHORT_SECONDS
        assert not taken or empty or ahead <= max(most, SHORT_SECONDS)


def settled(seconds, calls, times=200, behind=1):
    """A pace after so many answers to so many calls each, one after another."""
    pace, now = Pace(), 50.0
    for _ in range(times):
        now += seconds * calls
        pace.answered(now, seconds * calls, calls, behind=behind)
    return pace, now


@pytest.mark.parametrize("seconds", [0.00001, 0.0003, 0.005, 2.0])
@pytest.mark.parametrize("calls", [1, 7])
def test_it_is_what_a_call_takes(seconds, calls):
    pace, now = settled(seconds, calls)
    assert pace.mean == pytest.approx(seconds, rel=0.01)
    assert pace.together(64) == max(1, min(64, int(TURN_SECONDS / pace.mean)))
    assert pace.work(now, 3) == pytest.approx(3 * seconds, rel=0.01)


def test_of_models_that_become_slow_few_go_together_after_a_few_answers():
    pace, now = settled(0.00001, 64)
    answers = 0
    while pace.together(64) * 0.25 / 64 > 0.05:
        pace.answered(now + 0.25, 0.25, 64, behind=1)
        now += 0.25
        answers += 1
    assert answers <= 4


def test_a_pause_of_the_machine_is_no_slow_model():
    pace, now = settled(0.00001, 64)
    for _ in range(10):
        pace.answered(now + 0.25, 0.25, 2, behind=1)
        now += 0.25
    assert pace.work(now, 100) == pytest.approx(0.001, rel=0.01)
    pace, now = settled(0.00001, 64)
    pace.answered(now + 2.0, 2.0, 64, behind=1)
    assert pace.together(64) == 64


def test_how_much_work_lies_ahead_is_known_from_answers_behind_which_others_waited_and_not_for_long():
    pace, now = settled(0.005, 1, behind=0)
    assert pace.work(now, 1000) == 0.0
    pace, now = settled(0.005, 1)
    assert pace.work(now + 1.0, 10) == pytest.approx(0.05, rel=0.01)
    assert pace.work(now + 10.0, 10) == 0.0


def test_a_queue_is_calm_only_when_nobody_waits_and_nothing_else_is_done():
    gate, now = Gate(0.5), 50.0
    for _ in range(100):
        now += 0.1
        gate.answered(now, 0.1, 1, behind=1)
    assert gate.admits(now, 5)
    assert not gate.admits(now, 6)
    assert gate.admits(now, 0, busy=True)
    assert not gate.admits(now, 1)
    assert gate.admits(now, 0)
    assert gate.admits(now, 1)


def test_what_comes_in_a_step_is_refused_once_too_much_lies_before_it_until_a_step_was_short():
    step, now, taken = Step(0.05), 7.0, []
    for at, moment in enumerate((0.0, 0.02, 0.04, 0.06, 0.065)):
        step.came(now + moment)
        taken.append(not at or step.admits())
    assert taken == [True, True, True, False, False]
    step.over()
    step.came(now + 1.0)
    step.came(now + 1.03)
    assert not step.admits()
    step.over()
    step.came(now + 2.0)
    step.over()
    step.came(now + 3.0)
    step.came(now + 3.03)
    assert step.admits()


def test_a_step_is_as_long_as_what_was_done_in_it():
    step, lengths = Step(0.5), []
    for now in (7.0, 7.01, 7.03):
        assert step.came(now) == (not lengths)
        lengths.append(step.worked)
    assert lengths == [0.0, pytest.approx(0.01), pytest.approx(0.03)]
    step.over()
    assert not step.was_short
    assert step.came(7.04)
    assert step.worked == 0.0
    step.over()
    assert step.was_short


def test_a_pause_within_a_step_is_nobodys_work():
    step = Step(0.5)
    step.came(7.0)
    step.came(17.0)
    assert step.worked < 0.1
