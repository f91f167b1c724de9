"""Retries stay a small share of the load, and a quiet gateway may always try again."""

from hypothesis import given
from hypothesis import strategies as st

from manymodels.retries import PER_SECOND, SHARE, WINDOW_SECONDS, RetryBudget


def test_a_quiet_gateway_may_try_again():
    assert RetryBudget().take(5.0)


def test_retries_end_at_a_tenth_of_the_calls_and_ten_a_second():
    budget = RetryBudget()
    budget.called(0.0, calls=5000)
    taken = sum(budget.take(0.5) for _ in range(5000))
    assert taken == SHARE * 5000 + PER_SECOND * WINDOW_SECONDS


def test_what_is_longer_ago_than_the_window_counts_no_more():
    budget = RetryBudget()
    while budget.take(0.0):
        pass
    assert not budget.take(WINDOW_SECONDS - 0.1)
    assert budget.take(WINDOW_SECONDS + 0.1)


@given(steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50)), max_size=60))
def test_within_any_window_retries_never_exceed_the_budget(steps):
    budget, now, log = RetryBudget(), 0.0, []
    for passed, calls in steps:
        now += passed
        budget.called(now, calls)
        log.append((int(now), calls, 0))
        while budget.take(now):
            log.append((int(now), 0, 1))
            recent = [entry for entry in log if entry[0] > int(now) - WINDOW_SECONDS]
            allowed = SHARE * sum(entry[1] for entry in recent) + PER_SECOND * WINDOW_SECONDS
            assert sum(entry[2] for entry in recent) <= allowed + 1
