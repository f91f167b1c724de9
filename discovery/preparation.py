"""Preparation: whether the workers of a house hold what is about to go live, and who of them does not.

A worker that holds everything must have announced the release, and so must every worker of the group's pool, which
announces it when it holds its share. Where all workers have seats, every shard must have a living one that has it:
else nobody would answer for its keys.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from discovery.membership import WORKER, Membership
from discovery.seating import ANNOUNCED, is_assigned, living_seats, pool_of, seat_name, unserved
from discovery.seats import NOWHERE, GroupSeats, PoolSeats, find_seats, read_pool
from discovery.snapshot import Member
from registry.assignments import assignment_body, assignment_numbers
from registry.database import Database
from registry.errors import PromotionRefusedError
from registry.groups import get_group

POLL_SECONDS: Final = 0.005
LOOK_SECONDS: Final = 0.2
MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a preparation is.

    Attributes:
        workers: ids of the living workers that must hold the releases.
        lacking: those of them that do not.
        unserved: shards that no living worker has, by count of shards.
        alone: whether no worker lives at all.
    """

    workers: frozenset[str]
    lacking: tuple[str, ...]
    unserved: Mapping[int, Sequence[int]]
    alone: bool


class Preparation:
    """Some releases of a group on their way to be live. Used by one thread."""

    def __init__(
        self,
        database: Database,
        membership: Membership,
        group: str,
        numbers: Sequence[int],
        shards: Callable[[], frozenset[int]],
    ) -> None:
        """`shards` tells into how many shards the releases are cut; it is asked only where workers have seats."""
        self.group = group
        self.numbers = numbers
        self.pool = ""
        self._database = database
        self._membership = membership
        self._shards = shards
        self._counts: frozenset[int] | None = None
        self._pools: dict[str, PoolSeats] = {}

    def look(self) -> Standing:
        """See who lives and what they hold.

        A suspect worker still serves and is waited for: it recovers, or dies and no longer counts. A draining one
        takes no new requests and does not count.
        """
        prepared = [self._membership.prepared(self.group, number) for number in self.numbers]
        members = [
            member
            for member in self._membership.members()
            if WORKER in member.services and member.state in ("alive", "suspect")
        ]
        whole = frozenset(member.id for member in members if not is_assigned(member))
        workers, unserved = whole, dict[int, Sequence[int]]()
        if len(whole) < len(members):
            seats = self._seats()
            workers |= self._concerned(members, seats)
            if not whole:
                unserved = self._unserved(members, seats)
        lacking = tuple(sorted(workers - workers.intersection(*prepared)))
        return Standing(workers, lacking, unserved, alone=not members)

    def _seats(self) -> GroupSeats:
        """Where the group is held now; parsed only when an assignment is new."""
        if self._counts is None:
            self._counts = self._shards()
        with self._database.read() as connection:
            self.pool = get_group(connection, self.group).pool
            for pool, number in assignment_numbers(connection).items():
                before = self._pools.get(pool)
                if before is None or before.number != number:
                    self._pools[pool] = read_pool(number, assignment_body(connection, pool), before)
        return find_seats(self._pools, self.group, self.pool)

    def _concerned(self, members: Iterable[Member], seats: GroupSeats) -> frozenset[str]:
        listed = {seat for shards in seats.shards.values() for names in shards for seat in names}
        return frozenset(
            member.id
            for member in members
            if is_assigned(member) and (pool_of(member) == self.pool or seat_name(member) in listed)
        )

    def _unserved(self, members: Iterable[Member], seats: GroupSeats) -> dict[int, Sequence[int]]:
        stored = self._pools.get(self.pool, PoolSeats())
        said = self._membership.prepared(f"{ANNOUNCED}{self.pool}", stored.number) if seats is not NOWHERE else ()
        living = living_seats(members)
        ready = {seat for seat, own in living.items() if all(member.id in said for member in own)}
        found = {count: unserved(seats, count, living, ready) for count in self._counts or ()}
        return {count: shards for count, shards in found.items() if shards}


def await_members(
    ahead: Preparation,
    deadline: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    look_for: Callable[[], None],
) -> bool:
    """Wait until every living worker holds its share of the releases; False if no worker lives.

    `look_for` raises when there is nothing left to wait for: nobody can hold what was deleted, and other promotions may
    stand behind this one.

    Raises:
        PromotionRefusedError: if that is not so at the deadline (monotonic seconds).
    """
    look_at = clock() + LOOK_SECONDS
    while True:
        standing = ahead.look()
        if not standing.lacking and not standing.unserved:
            return not standing.alone
        if clock() >= deadline:
            raise PromotionRefusedError(_refusal(ahead, standing))
        if clock() >= look_at:
            look_for()
            look_at = clock() + LOOK_SECONDS
        sleep(POLL_SECONDS)


def _refusal(ahead: Preparation, standing: Standing) -> str:
    releases = f"release {list(ahead.numbers)} of {ahead.group}"
    for count, shards in standing.unserved.items():
        named = ", ".join(str(shard) for shard in shards[:MOST_NAMED])
        more = f" and {len(shards) - MOST_NAMED} more" if len(shards) > MOST_NAMED else ""
        return (
            f"no living worker of the pool {ahead.pool!r} holds shards {named}{more} (of {count}) of {releases}; "
            "the former release goes on"
        )
    return (
        f"{len(standing.lacking)} of {len(standing.workers)} workers did not hold {releases} in time "
        f"({', '.join(standing.lacking[:MOST_NAMED])}); the former release goes on"
    )
