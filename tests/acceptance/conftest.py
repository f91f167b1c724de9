"""What holds for all acceptance tests: those that want the machine for themselves are believed only where they had it.

A test marked `alone` that fails is run again, twice at most, where the machine lacked a good part of its processors'
time meanwhile because the one that it runs on gave them to others. Nothing else is ever run again.
"""

import pytest

from benchmarks.machine import Theft

NOTABLE = 0.05  # of all processors' time
RERUNS = 2

_whole = Theft()
_of_test = [Theft()]  # of the one that runs: a condition is told nothing of the test that it is about


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See pytest."""
    for item in items:
        if item.get_closest_marker("alone") is not None:
            item.add_marker(pytest.mark.flaky(reruns=RERUNS, condition=was_starved))


def pytest_runtest_setup() -> None:
    """See pytest."""
    _of_test[0] = Theft()


def was_starved() -> bool:
    """Whether the test that just failed lacked processors."""
    return _of_test[0].share >= NOTABLE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """See pytest."""
    terminalreporter.write_line(f"{_whole.share:.0%} of the processors' time went to other machines")
