"""What a serving process counts of its requests.

prometheus_client shares counts between processes through mapped files, which costs several microseconds a request;
a predict has no time for that. Data routes therefore note their times in a list and hand them on twice a second. No
label ever names a model.
"""

import asyncio
from collections import Counter as Counts
from collections import defaultdict
from typing import Final

import numpy as np
from prometheus_client import Counter, Gauge, Histogram

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
FLUSH_SECONDS: Final = 0.5

REQUESTS: Final = Counter("manymodels_requests", "Requests by route and status code", ["route", "code"])
SECONDS: Final = Histogram("manymodels_request_seconds", "Time to answer, by data route", ["route"], buckets=BUCKETS)
RETRIES: Final = Counter("manymodels_hop_retries", "Calls that were sent to a second worker")
REFUSED_RETRIES: Final = Counter("manymodels_hop_retries_refused", "Calls not sent again because the budget was spent")
LEFT_OUT: Final = Gauge("manymodels_workers_left_out", "Workers that a gateway leaves out", multiprocess_mode="livemax")
LEVELS: Final = Counter("manymodels_rows_by_fallback_level", "Rows answered, by fallback level", ["level"])


class DataMetrics:
    """Counts of the data routes of one process that prometheus_client was not told yet. For one event loop."""

    def __init__(self) -> None:
        self._seconds: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        self._levels: Counts[int] = Counts()
        self._due = False

    def answered(self, route: str, code: int, seconds: float) -> None:
        """Count one answer. Called on the event loop."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._seconds[route, code].append(seconds)

    def level_answered(self, level: int, rows: int) -> None:
        """Count rows answered at a fallback level; always within a request that `answered` will count."""
        self._levels[level] += rows

    def flush(self) -> None:
        """Hand on what was counted. Called on the event loop."""
        self._due = False
        seconds, self._seconds = self._seconds, defaultdict(list)
        for (route, code), found in seconds.items():
            REQUESTS.labels(route, str(code)).inc(len(found))
            buckets = np.bincount(np.searchsorted(BUCKETS, found), minlength=len(BUCKETS) + 1)
            _observe(SECONDS.labels(route), buckets.tolist(), sum(found))
        levels, self._levels = self._levels, Counts()
        for level, rows in levels.items():
            LEVELS.labels(str(level)).inc(rows)


def _observe(histogram: Histogram, counts: list[int], total: float) -> None:
    """Add many observations at once, which prometheus_client has no public call for."""
    for bucket, count in zip(histogram._buckets, counts, strict=True):  # noqa: SLF001 - see above
        if count:
            bucket.inc(count)
    histogram._sum.inc(total)  # noqa: SLF001 - see above


def other_answered(route: str, code: int) -> None:
    """Count an answer of a route that is no data route."""
    REQUESTS.labels(route, str(code)).inc()
