"""When each version of a key was live: computed from what releases changed and which of them deployments pointed at."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class LivePeriod:
    """A span in which a deployment answered with a version; `release` is the one that brought it, end None is now.

    Times are seconds since 1970. Releases that followed without changing the version prolong the span.
    """

    deployment: str
    release: int
    start: float
    end: float | None


def contents_of(bases: Mapping[int, int | None], changes: Mapping[int, int]) -> dict[int, int | None]:
    """What each release holds of one key (a sequence number), given what some releases changed it to."""
    held: dict[int, int | None] = {}
    for number in sorted(bases):  # a base has a lower number than what is built on it
        base = bases[number]
        held[number] = changes.get(number, held[base] if base is not None else None)
    return held


def live_periods(held: Mapping[int, int | None], periods: Iterable[LivePeriod]) -> dict[int, tuple[LivePeriod, ...]]:
    """Spans by sequence number, in order of time.

    Args:
        held: what each release holds of the key.
        periods: when each release was live, in order of time.
    """
    spans: dict[int, list[LivePeriod]] = {}
    last: dict[str, tuple[int | None, float | None]] = {}  # of each deployment: what it held, and until when
    for period in periods:
        sequence = held.get(period.release)
        prolongs = last.get(period.deployment) == (sequence, period.start)
        last[period.deployment] = (sequence, period.end)
        if sequence is None:
            continue
        found = spans.setdefault(sequence, [])
        if prolongs:
            _prolong(found, period)
        else:
            found.append(period)
    return {sequence: tuple(found) for sequence, found in spans.items()}


def _prolong(spans: list[LivePeriod], by: LivePeriod) -> None:
    position = max(n for n, span in enumerate(spans) if span.deployment == by.deployment)
    spans[position] = replace(spans[position], end=by.end)
