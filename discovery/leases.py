"""Membership by leases in SQL, in a database file of their own.

A renewal is one row, a look is one small read, both fractions of a millisecond. Commits are not forced to the disk
(`synchronous=NORMAL`): after power loss no member lives, so there is nothing to keep, and WAL keeps the file whole.
Waits for a lock are short, because a renewal that comes late is worth less than the next one.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, delete, insert, select, update

from discovery.errors import DiscoveryError
from discovery.lease_tables import (
    BUMP,
    CHANGES,
    DROP,
    DROP_STILL,
    LOOK,
    PREPARED,
    RENEW,
    STATS,
    create_tables,
    leases,
    prepared_releases,
)
from discovery.liveness import DEFAULT_TTL, Observation, observe, state_at, still_for
from discovery.membership import check_member_id
from discovery.snapshot import Member, MemberState
from registry.database import Database

SWEEP_TTLS: Final = 20
BUSY_SECONDS: Final = 0.25


def migrate_leases(url: str) -> None:
    """Create the leases' tables; existing ones stay untouched. Called by the parent before its children start."""
    database = _database(url)
    try:
        create_tables(database)
    finally:
        database.close()


class SqlMembership:
    """A `Membership` over leases in SQL.

    Owns its connections, which open at first use. Safe from any thread: what it remembers (its observation of others,
    what it said of its own members) is guarded by a lock that is never held over I/O.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic, ttl: float = DEFAULT_TTL) -> None:
        """Nothing is opened yet.

        Args:
            url: of the leases' database, see `migrate_leases`.
            clock: this reader's monotonic clock, seconds.
            ttl: seconds without progress after which a member is dead; the same for all processes of a house.
        """
        self.ttl = ttl
        self._database = _database(url)
        self._clock = clock
        self._lock = threading.Lock()
        self._own: dict[str, Member] = {}
        self._held: dict[str, frozenset[tuple[str, int]]] = {}
        self._observation: Observation | None = None
        self._members: tuple[Member, ...] = ()
        self._parsed: dict[str, tuple[tuple[str, ...], Member]] = {}

    def join(self, member: Member) -> None:
        """Take up a lease under `member.id`; joining again replaces what was said before, but for its releases.

        Raises:
            DiscoveryError: if the id is not 1 to 128 letters, digits and `._:-`.
        """
        check_member_id(member.id)
        with self._database.write() as connection:
            self._take_up(connection, member, b"{}")
        with self._lock:
            self._own[member.id] = member

    def renew(self, member_id: str, *, state: MemberState, stats: Mapping[str, Any]) -> None:
        """Show progress; see `Membership.renew`. Sweeps leases that stood still for 20 ttl along the way."""
        with self._lock:
            own = self._own.get(member_id)
            silent = self._silent()
        if own is None:
            raise DiscoveryError(f"{member_id} never joined through this process", field="id")
        said = orjson.dumps(stats, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)
        with self._database.write() as connection:
            done = connection.execute(RENEW, {"b_id": member_id, "b_state": state, "b_stats": said})
            if done.rowcount == 0:
                self._take_up(connection, replace(own, state=state), said)
            elif own.state != state:
                connection.execute(BUMP, {"b_by": 1})
            if silent and connection.execute(DROP_STILL, silent).rowcount:
                connection.execute(BUMP, {"b_by": 1})
        with self._lock:
            self._own[member_id] = replace(own, state=state)

    def leave(self, member_id: str) -> None:
        """Give up a lease; leaving twice is fine."""
        with self._lock:
            self._own.pop(member_id, None)
            self._held.pop(member_id, None)
        with self._database.write() as connection:
            if connection.execute(DROP, {"b_id": member_id}).rowcount:
                connection.execute(BUMP, {"b_by": 1})

    def members(self) -> tuple[Member, ...]:
        """All members by id, each in the state this reader judges it in; the same object while nothing changes."""
        with self._database.read() as connection:
            rows = connection.execute(LOOK).all()
        with self._lock:
            self._observation = observe(
                self._observation, {row.id: row.counter for row in rows}, self._clock(), self.ttl
            )
            members = tuple(self._judged(row, state_at(self._observation, row.id, self.ttl)) for row in rows)
            if members != self._members:
                self._members = members
                self._parsed = {member.id: self._parsed[member.id] for member in members}
            return self._members

    def stats(self) -> Mapping[str, Mapping[str, Any]]:
        """What members last said of themselves with a renewal, by member id."""
        with self._database.read() as connection:
            return {row.id: orjson.loads(row.stats) for row in connection.execute(STATS)}

    def announce(self, member_id: str, prepared: Iterable[tuple[str, int]]) -> None:
        """Say which (group, release) pairs a member holds: the complete set. No lease, nothing said."""
        held = frozenset(prepared)
        with self._database.write() as connection:
            _replace_prepared(connection, member_id, held)
        with self._lock:
            self._held[member_id] = held

    def prepared(self, group: str, release: int) -> frozenset[str]:
        """Ids of the members that hold this release, whatever state they are in."""
        with self._database.read() as connection:
            return frozenset(connection.execute(PREPARED, {"b_group": group, "b_release": release}).scalars())

    def changes(self) -> tuple[str, int]:
        """`(epoch, n)` of the members' picture."""
        with self._database.read() as connection:
            row = connection.execute(CHANGES).one()
            return row.epoch, row.changes

    def bump(self, by: int = 1) -> int:
        """Count a change that no write shows. Answers the new n."""
        with self._database.write() as connection:
            return int(connection.execute(BUMP, {"b_by": by}).scalar_one())

    def purge(self) -> None:
        """Drop all members: for a parent that starts under its home's lock and so knows that none of them lives."""
        with self._database.write() as connection:
            if connection.execute(delete(leases)).rowcount:
                connection.execute(BUMP, {"b_by": 1})

    def close(self) -> None:
        """Close the connections; a later use opens new ones."""
        self._database.close()

    def _judged(self, row: Row[*tuple[Any, ...]], judged: MemberState) -> Member:
        """A member as it said it is and this reader judges it to be; parsed only when either changed."""
        state: MemberState = "draining" if row.state == "draining" and judged != "dead" else judged
        said = (state, row.uri, row.services, row.metadata)
        known = self._parsed.get(row.id)
        if known is None or known[0] != said:
            services, metadata = tuple(orjson.loads(row.services)), orjson.loads(row.metadata)
            known = self._parsed[row.id] = (said, Member(row.id, row.uri, state, services, metadata))
        return known[1]

    def _silent(self) -> list[dict[str, Any]]:
        """Leases that stood still for so long that nobody waits for them, with the counter they stood at."""
        seen = self._observation
        if seen is None:
            return []
        return [
            {"b_id": member, "b_counter": sighting.counter}
            for member, sighting in seen.sightings.items()
            if still_for(seen, member) >= SWEEP_TTLS * self.ttl
        ]

    def _take_up(self, connection: Connection, member: Member, stats: bytes) -> None:
        values = {
            "state": member.state,
            "uri": member.uri,
            "services": orjson.dumps(member.services).decode(),
            "metadata": orjson.dumps(dict(member.metadata), option=orjson.OPT_SORT_KEYS).decode(),
            "stats": stats,
        }
        known = update(leases).where(leases.c.id == member.id).values(counter=leases.c.counter + 1, **values)
        if connection.execute(known).rowcount == 0:
            connection.execute(insert(leases).values(id=member.id, counter=1, **values))
            _replace_prepared(connection, member.id, self._held.get(member.id, frozenset()))
        connection.execute(BUMP, {"b_by": 1})


def _database(url: str) -> Database:
    return Database(url, busy_seconds=BUSY_SECONDS, durable=False)


def _replace_prepared(connection: Connection, member_id: str, held: frozenset[tuple[str, int]]) -> None:
    connection.execute(delete(prepared_releases).where(prepared_releases.c.member_id == member_id))
    known = connection.execute(select(leases.c.id).where(leases.c.id == member_id)).first()
    if held and known is not None:
        rows = [{"member_id": member_id, "group_name": group, "release": release} for group, release in sorted(held)]
        connection.execute(insert(prepared_releases), rows)
