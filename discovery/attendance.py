"""Attendance: which seats are taken now, and of those that are not, since when.

A seat that was left is most probably taken again in a moment, by the process that is restarted there; so what it
holds is kept for it for a while, judged on the reader's own monotonic clock from when it first saw the seat empty. No
time stamp of anybody else is compared. Pure functions over immutable values.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from discovery.assignment import Seat
from discovery.seating import is_assigned, living_seats, pool_of, seat_name, seat_of
from discovery.snapshot import Member

GRACE_SECONDS: Final = 15.0

Standing = Literal["here", "missed", "awaited", "gone"]


@dataclass(frozen=True, slots=True)
class Attending:
    """How things stand with a seat.

    Attributes:
        seat, pool: as its members said last; a seat that was never seen is in no pool.
        standing: `here`, while a member in it takes requests; else, for as long as a seat is kept, `missed` if it was
            here before or `awaited` if this reader never saw it; `gone` after that.
        serves: whether a member in it answers, be it one that drains.
    """

    seat: Seat
    pool: str | None
    standing: Standing
    serves: bool


@dataclass(frozen=True, slots=True)
class Attendance:
    """All seats by name, and since when (monotonic seconds) those that are not here are away."""

    seats: Mapping[str, Attending]
    since: Mapping[str, float]


NOBODY: Final = Attendance({}, {})


def attend(
    previous: Attendance, members: Iterable[Member], named: Collection[str], now: float, grace: float = GRACE_SECONDS
) -> Attendance:
    """Look at the seats once more.

    Args:
        previous: the last look, `NOBODY` before the first.
        members: as just read.
        named: the seats that an assignment names. One that is not here and not named is forgotten.
        now: the reader's monotonic clock, seconds.
        grace: seconds for which a seat is kept.
    """
    members = tuple(members)
    here = {name: min(sitting, key=lambda member: member.id) for name, sitting in living_seats(members).items()}
    leaving = {seat_name(member) for member in members if is_assigned(member) and member.state == "draining"}
    seats = {name: Attending(seat_of(member), pool_of(member), "here", serves=True) for name, member in here.items()}
    since = {}
    for name in sorted(set(named) - set(here)):
        since[name] = previous.since.get(name, now)
        seats[name] = _away(name, previous.seats.get(name), now - since[name] >= grace, name in leaving)
    return Attendance(seats, since)


def _away(name: str, before: Attending | None, is_late: bool, serves: bool) -> Attending:
    if before is None:
        return Attending(Seat(name), None, "gone" if is_late else "awaited", serves)
    kept: Standing = "awaited" if before.standing == "awaited" else "missed"
    return Attending(before.seat, before.pool, "gone" if is_late or before.standing == "gone" else kept, serves)
