"""What a serving process counts of its requests.

prometheus_client shares counts between processes through mapped files, which costs several microseconds a request;
a predict has no time for that. Data routes therefore count in plain integers and hand them on twice a second. No
label ever names a model.
"""

import asyncio
from bisect import bisect_left
from collections import Counter as Counts
from typing import Final

from prometheus_client import Counter, Histogram

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
FLUSH_SECONDS: Final = 0.5

REQUESTS: Final = Counter("manymodels_requests", "Requests by route and status code", ["route", "code"])
SECONDS: Final = Histogram("manymodels_request_seconds", "Time to answer, by data route", ["route"], buckets=BUCKETS)
LEVELS: Final = Counter("manymodels_rows_by_fallback_level", "Rows answered, by fallback level", ["level"])


class DataMetrics:
    """Counts of the data routes of one process that prometheus_client was not told yet. For one event loop."""

    def __init__(self) -> None:
        self._codes: Counts[tuple[str, int]] = Counts()
        self._buckets: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        self._levels: Counts[int] = Counts()
        self._due = False

    def answered(self, route: str, code: int, seconds: float) -> None:
        """Count one answer. Called on the event loop."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._codes[route, code] += 1
        buckets = self._buckets.get(route)
        if buckets is None:
            buckets = self._buckets[route] = [0] * (len(BUCKETS) + 1)
        buckets[bisect_left(BUCKETS, seconds)] += 1
        self._sums[route] = self._sums.get(route, 0.0) + seconds

    def level_answered(self, level: int, rows: int) -> None:
        """Count rows answered at a fallback level; always within a request that `answered` will count."""
        self._levels[level] += rows

    def flush(self) -> None:
        """Hand on what was counted. Called on the event loop."""
        self._due = False
        codes, self._codes = self._codes, Counts()
        for (route, code), count in codes.items():
            REQUESTS.labels(route, str(code)).inc(count)
        buckets, self._buckets = self._buckets, {}
        sums, self._sums = self._sums, {}
        for route, counts in buckets.items():
            _observe(SECONDS.labels(route), counts, sums[route])
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
