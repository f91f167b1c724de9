"""Seating: which member sits where, and what it holds there.

A seat is a place that outlives the processes in it: a worker service that is restarted at its address is the same
seat, and its several processes are one. Only members that say they are assigned have a seat; any other worker holds
everything. Pure functions over immutable values.
"""

from collections.abc import Collection, Iterable
from typing import Final

from discovery.assignment import Seat
from discovery.membership import WORKER
from discovery.seats import GroupSeats
from discovery.snapshot import GroupView, Member
from registry.records import DEFAULT_POOL

ASSIGNED: Final = "yes"
ANNOUNCED: Final = "@assignment/"  # before a pool's name: what took up its assignment; no group's name begins so


def is_assigned(member: Member) -> bool:
    """Whether a member holds only its share; any other worker holds everything."""
    return WORKER in member.services and member.metadata.get("assigned") == ASSIGNED


def holds_everything(member: Member) -> bool:
    """Whether a member takes requests for any shard, because it has no seat."""
    return WORKER in member.services and not is_assigned(member) and member.state in ("alive", "suspect")


def seat_name(member: Member) -> str:
    """Where a member sits: what it says, or the address it is reached at."""
    return member.metadata.get("seat") or member.uri


def seat_of(member: Member) -> Seat:
    """The seat of a member, as it describes it; a weight that is none counts as 1."""
    try:
        weight = float(member.metadata.get("weight", ""))
    except ValueError:
        weight = 1.0
    return Seat(seat_name(member), weight if 0 < weight < float("inf") else 1.0, member.metadata.get("zone", ""))


def pool_of(member: Member) -> str:
    """Which pool a member's seat belongs to."""
    return member.metadata.get("pool") or DEFAULT_POOL


def share(view: GroupView, shards: int, seat: str) -> frozenset[int] | None:
    """The shards that a seat holds of a release cut into so many; None while nothing is assigned for that count."""
    assigned = view.seats.get(shards)
    if assigned is None:
        return None
    return frozenset(shard for shard, names in enumerate(assigned) if seat in names)


def living_seats(members: Iterable[Member]) -> dict[str, list[Member]]:
    """The members that take requests and hold shares, by seat."""
    seats: dict[str, list[Member]] = {}
    for member in members:
        if is_assigned(member) and member.state in ("alive", "suspect"):
            seats.setdefault(seat_name(member), []).append(member)
    return seats


def unserved(seats: GroupSeats, count: int, living: Collection[str], ready: Collection[str]) -> list[int]:
    """The shards that no living seat has: those in `ready` have what they are to hold, others what they held before."""
    assigned = seats.shards.get(count)
    if assigned is None:
        return list(range(count))
    moves = seats.moves.get(count, {})
    coming = {shard: move.coming for shard, move in moves.items()}
    return [
        shard
        for shard, names in enumerate(assigned)
        if not any(seat in living and (seat in ready or seat not in coming.get(shard, ())) for seat in names)
    ]
