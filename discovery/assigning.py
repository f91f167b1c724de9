"""The assigner: one thread that keeps the stored assignments fitting the seats that are taken and the groups there are.

About twice a second it looks at the members and at the snapshot, decides, and writes what differs by compare and set.
Any number of assigners may run at once: all decide the same on the same picture, and of two that write one loses and
looks again. Nothing here is needed to answer a request; while no assigner runs, everything is held where it is.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

from discovery.attendance import GRACE_SECONDS, NOBODY, Attending, attend
from discovery.membership import Membership
from discovery.next_assignment import Want, next_assignment
from discovery.seating import ANNOUNCED, living_seats, pool_of
from discovery.seats import NOWHERE, GroupSeats, PoolSeats, find_seats, write_groups
from discovery.snapshot import GroupView, Member, Snapshot
from registry.assignments import store_assignment
from registry.database import Database

log = logging.getLogger("manymodels.discovery")

INTERVAL: Final = 0.5

_Question = tuple[
    PoolSeats, tuple[Want, ...], dict[str, Attending], frozenset[str], dict[str, GroupSeats]
]  # what a decision depends on: while it stays the same, so does the answer


class Assigner:
    """Owns its thread, which lives from `start` to `stop`; everything else is its caller's.

    Attributes:
        failures: looks since the start that failed, so that the stored assignments stayed as they were.
    """

    def __init__(
        self,
        database: Database,
        membership: Membership,
        snapshot: Callable[[], Snapshot | None],
        *,
        seat_seconds: float = GRACE_SECONDS,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read yet.

        Args:
            database: the registry's, where assignments are stored.
            membership: the house's.
            snapshot: what a watcher shows now (`lambda: watcher.current`).
            seat_seconds: how long a seat that is away keeps its shards.
            interval: seconds between two looks.
            clock: tells monotonic seconds.
        """
        self.failures = 0
        self._database = database
        self._membership = membership
        self._snapshot = snapshot
        self._seat_seconds = seat_seconds
        self._interval = interval
        self._clock = clock
        self._attendance = NOBODY
        self._settled: dict[str, _Question] = {}
        self._failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="assigner", daemon=True)

    def start(self) -> None:
        """Go on in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a look under way is finished. Stopping twice, or unstarted, is fine."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def assign_once(self) -> int:
        """Look once, and write what differs; answers how many pools were written.

        Raises:
            DatabaseBusyError, DiscoveryAwayError: if the registry or the members are away.
        """
        shown = self._snapshot()
        if shown is None:
            return 0
        members = self._membership.members()
        now = self._clock()
        self._attendance = attend(self._attendance, members, _named(shown), now, self._seat_seconds)
        pools = {view.pool for view in shown.groups.values()} | set(shown.assignments)
        return sum(self._assign_pool(shown, pool, members) for pool in sorted(pools))

    def _assign_pool(self, shown: Snapshot, pool: str, members: Iterable[Member]) -> bool:
        stored = shown.assignments.get(pool, PoolSeats())
        wants = tuple(_want(shown, view, stored) for view in shown.groups.values() if view.pool == pool)
        seats = dict(self._attendance.seats)
        ready, kept = self._ready(pool, stored, members), _kept(shown, pool, stored)
        question = (stored, wants, seats, ready, kept)
        if question == self._settled.get(pool):
            return False
        decided = next_assignment(stored, pool, wants, seats, ready) | kept
        if decided == stored.groups:
            self._settled[pool] = question
            return False
        with self._database.write() as connection:
            # What was decided on a picture that is late loses here, and the watcher brings a newer one.
            return store_assignment(connection, pool, stored.number, write_groups(decided))

    def _ready(self, pool: str, stored: PoolSeats, members: Iterable[Member]) -> frozenset[str]:
        """The seats of which all living members say that they have taken up the stored assignment."""
        if not stored.number:
            return frozenset()
        said = self._membership.prepared(f"{ANNOUNCED}{pool}", stored.number)
        sitting = living_seats(member for member in members if pool_of(member) == pool)
        return frozenset(seat for seat, own in sitting.items() if all(member.id in said for member in own))

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self.assign_once()
            except Exception as error:  # noqa: BLE001 - an assigner that died would leave shards with seats that are gone
                self.failures += 1
                if not self._failing:
                    log.warning("the assignments stay as they are: %s: %s", type(error).__name__, error)
                self._failing = True
            else:
                self._failing = False


def _named(shown: Snapshot) -> Collection[str]:
    """All seats that any assignment names."""
    return {
        seat
        for stored in shown.assignments.values()
        for group in stored.groups.values()
        for shards in group.shards.values()
        for names in shards
        for seat in names
    }


def _want(shown: Snapshot, view: GroupView, stored: PoolSeats) -> Want:
    """What a group wants; of one whose live release cannot be read now nobody knows, so its counts stay."""
    counts = {release.manifest.shards for release in view.wanted}
    if view.unread:
        counts |= set(view.seats)
    elsewhere = NOWHERE if view.name in stored.groups else find_seats(shown.assignments, view.name, view.pool)
    return Want(view.name, view.replicas, frozenset(counts), elsewhere)


def _kept(shown: Snapshot, pool: str, stored: PoolSeats) -> dict[str, GroupSeats]:
    """The groups that went to another pool which has not taken them up yet: they stay until it has."""
    views = {name: shown.groups[name] for name in stored.groups if name in shown.groups}
    return {
        name: stored.groups[name]
        for name, view in views.items()
        if view.pool != pool and name not in shown.assignments.get(view.pool, PoolSeats()).groups
    }
