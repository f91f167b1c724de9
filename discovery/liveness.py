"""Liveness: a member lives while its lease counter makes progress on the reader's own monotonic clock.

No time stamp of any writer is ever compared, so a wall clock that jumps, or two machines that disagree about the
time, change nothing. A reader that sees a member for the first time gives it one whole ttl. A reader that was itself
stopped, or could not read for a while, blames nobody for that time: between two looks at most a sixth of a ttl counts,
so that a machine that slept, or leases that nobody could write, do not make everyone look dead on the first look.
Pure functions over immutable values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from discovery.snapshot import MemberState

DEFAULT_TTL: Final = 3.0
LOOKS_A_TTL: Final = 6


@dataclass(frozen=True, slots=True)
class Sighting:
    """The lease counter a reader last saw of a member, and since when (monotonic seconds) it has stood still."""

    counter: int
    since: float


@dataclass(frozen=True, slots=True)
class Observation:
    """What one reader knows at the moment `at` (its monotonic seconds) of every member, by id."""

    at: float
    sightings: Mapping[str, Sighting]


def observe(previous: Observation | None, counters: Mapping[str, int], now: float, ttl: float) -> Observation:
    """Look at the lease counters once more.

    Args:
        previous: the reader's last observation, None for its first.
        counters: lease counter by member id, as just read. A counter that differs, in any direction, is progress.
        now: the reader's monotonic clock, seconds.
        ttl: seconds without progress after which a member is dead.
    """
    if previous is None:
        return Observation(now, {member: Sighting(counter, now) for member, counter in counters.items()})
    now = max(now, previous.at)  # threads of one reader may arrive out of order
    unseen = max(0.0, now - previous.at - ttl / LOOKS_A_TTL)
    return Observation(
        now,
        {
            member: _progress(previous.sightings.get(member), counter, now, unseen)
            for member, counter in counters.items()
        },
    )


def state_at(observation: Observation, member: str, ttl: float) -> MemberState:
    """State of a member at the moment of an observation: alive, suspect past half a ttl, dead past a whole one."""
    still = observation.at - observation.sightings[member].since
    if still >= ttl:
        return "dead"
    return "suspect" if still >= ttl / 2 else "alive"


def still_for(observation: Observation, member: str) -> float:
    """Seconds for which a member's counter has stood still under this reader's eyes."""
    return observation.at - observation.sightings[member].since


def _progress(last: Sighting | None, counter: int, now: float, unseen: float) -> Sighting:
    if last is None or last.counter != counter:
        return Sighting(counter, now)
    return Sighting(counter, last.since + unseen) if unseen else last
