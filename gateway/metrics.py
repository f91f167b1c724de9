"""What a serving process counts of its requests.

Counted with prometheus_client, whose multi-process files are summed by whichever process is scraped. Children of
labelled metrics are kept, because finding one by its labels costs more than counting; no label ever names a model.
"""

from typing import Final

from prometheus_client import Counter, Histogram

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

REQUESTS: Final = Counter("manymodels_requests", "Requests by route and status code", ["route", "code"])
SECONDS: Final = Histogram("manymodels_request_seconds", "Time to answer, by data route", ["route"], buckets=BUCKETS)
LEVELS: Final = Counter("manymodels_rows_by_fallback_level", "Rows answered, by fallback level", ["level"])

_LEVELS = [LEVELS.labels(str(level)) for level in range(9)]


class RouteMetrics:
    """Kept children of one data route's metrics."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._codes = {200: REQUESTS.labels(route, "200")}
        self._seconds = SECONDS.labels(route)

    def answered(self, code: int, seconds: float) -> None:
        """Count one answer."""
        child = self._codes.get(code)
        if child is None:
            child = self._codes[code] = REQUESTS.labels(self._route, str(code))
        child.inc()
        self._seconds.observe(seconds)


def level_answered(level: int, rows: int) -> None:
    """Count rows answered at a fallback level."""
    _LEVELS[min(level, len(_LEVELS) - 1)].inc(rows)


def other_answered(route: str, code: int) -> None:
    """Count an answer of a route that is no data route."""
    REQUESTS.labels(route, str(code)).inc()
