"""Which calls are sent a second time, to another worker, and how many of them: the retry budget.

Without a budget, retries become the load that keeps a cluster down. Gateways keep one, and clients that ask workers
themselves. Retries of the last ten seconds may be at most a tenth of the calls of the last ten seconds, and ten a
second besides, so that a quiet caller may always try again (as Finagle's,
https://finagle.github.io/blog/2016/02/08/retry-budgets/).
"""

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 10
SHARE: Final = 0.1
PER_SECOND: Final = 10
# Codes of what is wrong with one worker, where another that holds the same shard may well answer.
ELSEWHERE: Final = frozenset(
    {
        "draining",
        "model_load_failed",
        "overloaded",
        "release_not_ready",
        "segment_damaged",
        "snapshot_unavailable",
        "storage_full",
        "store_away",
    }
)


class RetryBudget:
    """Counts by the second. The caller tells the time (monotonic seconds), and keeps other threads out."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int, int]] = deque()  # second, calls, retries
        self._calls = self._retries = 0

    def called(self, now: float, calls: int = 1) -> None:
        """Count calls."""
        self._count(now, calls, 0)

    def take(self, now: float) -> bool:
        """Whether one more call may be sent again; counts it if so."""
        self._count(now, 0, 0)
        if self._retries >= SHARE * self._calls + PER_SECOND * WINDOW_SECONDS:
            return False
        self._count(now, 0, 1)
        return True

    def _count(self, now: float, calls: int, retries: int) -> None:
        second = int(now)
        seconds = self._seconds
        if seconds and seconds[-1][0] == second:
            _, had_calls, had_retries = seconds[-1]
            seconds[-1] = (second, had_calls + calls, had_retries + retries)
        else:
            seconds.append((second, calls, retries))
            while seconds[0][0] <= second - WINDOW_SECONDS:
                _, gone_calls, gone_retries = seconds.popleft()
                self._calls -= gone_calls
                self._retries -= gone_retries
        self._calls += calls
        self._retries += retries
