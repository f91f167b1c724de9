"""Membership in Consul: a service with two TTL checks a member, and a few keys for what a service cannot say.

Who is there comes from one blocking query on the service, kept going by a thread, so a change is known in milliseconds
and asking costs nothing. What members hold, and what they say of themselves, are keys that are read when somebody asks.
Where Consul is away, or has lost its data, what was known stays.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from discovery.consul.aside import Aside
from discovery.consul.calls import CALL_SECONDS, ConsulCalls, Entries
from discovery.consul.keys import MemberKeys
from discovery.consul.picture import LEASE, PROGRESS, Picture, believe, members_of, meta_of, vanished
from discovery.consul.watch import Watch
from discovery.errors import DiscoveryAwayError, DiscoveryError
from discovery.liveness import DEFAULT_TTL
from discovery.membership import check_member_id
from discovery.snapshot import Member, MemberState

log = logging.getLogger("manymodels.discovery")

SWEEP_TTLS: Final = 20
MOST_TRIES: Final = 50

_COUNT: Final = "count"


class ConsulMembership:
    """A `Membership` in Consul, through the agent on this machine. Safe from any thread.

    Two threads watch from the first question about others on, until `close`. A renewal waits for the agent alone: the
    agent knows by itself that its checks were passed, while a key needs a leader, which Consul may be without for
    longer than a lease lasts; so a third thread writes keys. No lock is held over a call.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic, ttl: float = DEFAULT_TTL) -> None:
        """Nothing is asked yet.

        Args:
            url: see `ConsulCalls`.
            clock: this reader's monotonic clock, seconds.
            ttl: seconds without a renewal after which a member is dead; half of it makes it suspect.
        """
        self._ttls = {LEASE: ttl, PROGRESS: ttl / 2}
        self._calls = ConsulCalls(url)
        self._clock = clock
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._watches: tuple[Watch[Any], ...] = ()
        self._own: dict[str, Member] = {}
        self._registered_in: dict[str, str] = {}  # epoch in which a member was last registered
        self._keys = MemberKeys(self._calls, clock, SWEEP_TTLS * ttl)
        self._unwritten: set[str] = set()  # members whose key may be gone
        self._aside = Aside("keys of members in Consul")
        self._picture = Picture()
        self._index = 0
        self._count = ("", 0)

    def join(self, member: Member) -> None:
        """Register; joining again replaces what was said before, but for the releases held.

        Raises:
            DiscoveryError: if Consul could not take the id or the metadata.
            DiscoveryAwayError: if Consul is away; nothing was joined.
        """
        check_member_id(member.id)
        self._register(member)
        _, (epoch, _) = self._read_count()
        self._keys.write_held(member.id)
        with self._lock:
            self._own[member.id] = member
            self._registered_in[member.id] = epoch
            self._unwritten.add(member.id)  # what was announced since the line before; the first renewal writes it

    def renew(self, member_id: str, *, state: MemberState, stats: Mapping[str, Any]) -> None:
        """Pass the checks; see `Membership.renew`. What else there is to say or to sweep is done soon after."""
        with self._lock:
            own = self._own.get(member_id)
        if own is None:
            raise DiscoveryError(f"{member_id} never joined through this process", field="id")
        said, epoch = replace(own, state=state), self._count[0]
        lost = epoch not in ("", self._registered_in.get(member_id))
        if lost or said != own or not self._calls.renew(member_id, tuple(self._ttls)):
            self._register(said)
            with self._lock:
                self._unwritten.add(member_id)
                self._registered_in[member_id] = epoch
        with self._lock:
            if member_id in self._own:
                self._own[member_id] = said
        self._aside.ask(member_id, lambda: self._write_keys(member_id, stats))

    def leave(self, member_id: str) -> None:
        """Deregister; leaving twice is fine."""
        with self._lock:
            self._own.pop(member_id, None)
            self._unwritten.discard(member_id)
        self._aside.forget(member_id, CALL_SECONDS)
        self._keys.delete(member_id)  # first: whoever vanishes without a key has left
        self._calls.deregister(member_id)

    def members(self) -> tuple[Member, ...]:
        """All members by id; the same object while nothing changes. Asks nothing once the watches run."""
        self._watch()
        return self._picture.members

    def stats(self) -> Mapping[str, Mapping[str, Any]]:
        """What members last said of themselves, a few seconds old at the most, by member id."""
        return self._keys.stats()

    def announce(self, member_id: str, prepared: Iterable[tuple[str, int]]) -> None:
        """Say which (group, release) pairs a member holds: the complete set. No lease, nothing said."""
        self._keys.note(member_id, frozenset(prepared))
        with self._lock:
            joined = member_id in self._own
        if joined:
            self._keys.write_held(member_id)

    def prepared(self, group: str, release: int) -> frozenset[str]:
        """Ids of the members that hold this release, whatever state they are in."""
        return self._keys.holders(group, release)

    def changes(self) -> tuple[str, int]:
        """`(epoch, n)` of the members' picture: Consul's own index of the members, and what was counted beside it."""
        self._watch()
        with self._lock:
            epoch, counted = self._count
            return epoch, self._index + counted

    def bump(self, by: int = 1) -> int:
        """Count a change that no write shows. Answers the new n.

        Raises:
            DiscoveryAwayError: if Consul is away, or too many count at once; nothing was counted.
        """
        self._watch()
        for _ in range(MOST_TRIES):
            at, (epoch, counted) = self._read_count()
            if self._calls.put(_COUNT, _count_text(epoch, counted + by), if_at=at):
                self._take_count((epoch, counted + by))
                return self.changes()[1]
        raise DiscoveryAwayError("too many count a change at once; try again in a moment")

    def close(self) -> None:
        """End the threads. Nobody leaves by this."""
        self._aside.stop()
        with self._starting:
            for watch in self._watches:
                watch.stop()

    def _register(self, member: Member) -> None:
        parts = urlsplit(member.uri)
        address = parts.hostname or "", parts.port or 0
        self._calls.register(member.id, address, tags=member.services, meta=meta_of(member), ttls=self._ttls)

    def _write_keys(self, member_id: str, stats: Mapping[str, Any]) -> None:
        with self._lock:
            unwritten = member_id in self._unwritten
            self._unwritten.discard(member_id)
        if unwritten:
            try:
                self._keys.write_held(member_id)
            except DiscoveryAwayError:
                with self._lock:
                    self._unwritten.add(member_id)
                raise
        self._keys.say(member_id, stats)
        if self._watches:
            self._keys.sweep({member.id for member in self._picture.members} | self._own.keys())

    def _watch(self) -> None:
        """Start watching, once; the first answers are waited for, and nobody can say anything before they are there."""
        if self._watches:
            return
        with self._starting:
            if self._watches:
                return
            count = Watch(
                "the count", lambda index, wait: _count_answer(self._calls.get(_COUNT, index, wait)), self._take_count
            )
            members = Watch("members", self._ask_members, self._take_members)
            self._take_count(self._read_count()[1])
            count.start()
            try:
                members.start()
            except BaseException:
                count.stop()
                raise
            self._watches = count, members

    def _ask_members(self, index: str | None, wait: str) -> tuple[str, tuple[int, Entries]]:
        at, entries = self._calls.members(index, wait)
        return at, (int(at), entries)

    def _take_members(self, answer: tuple[int, Entries]) -> None:
        index, entries = answer
        seen, before = members_of(entries), self._picture
        left: frozenset[str] = frozenset()
        gone = vanished(before, seen) - before.missed.keys()
        if gone or index < self._index:
            epoch = self._count[0]
            now = self._read_count()[1]
            # A server that does not know yet that another leads may tell what was: nobody left by that.
            if now[0] == epoch and index >= self._index:
                left = gone - self._keys.not_left()
            self._take_count(now)
        picture = believe(before, seen, left, self._clock())
        if picture.missed.keys() - before.missed.keys():
            log.warning(
                "members vanished from Consul without having left, and are waited for: %s", sorted(picture.missed)
            )
        with self._lock:
            self._picture, self._index = picture, index

    def _take_count(self, count: tuple[str, int] | None) -> None:
        """Note the count of changes; an older one of the same epoch, as another thread may have read it, is not."""
        with self._lock:
            if count is not None and (count[0] != self._count[0] or count[1] > self._count[1]):
                self._count = count

    def _read_count(self) -> tuple[int, tuple[str, int]]:
        """The count of changes and as of which ModifyIndex; begins a new epoch where there is none."""
        for _ in range(MOST_TRIES):
            found = self._calls.get(_COUNT)[1]
            if found is not None:
                return found[0], _count_of(found[1])
            self._calls.put(_COUNT, _count_text(secrets.token_hex(4), 0), if_at=0)
        raise DiscoveryAwayError("Consul does not keep what it is told")


def _count_text(epoch: str, counted: int) -> bytes:
    return orjson.dumps({"epoch": epoch, "counted": counted})


def _count_of(text: bytes) -> tuple[str, int]:
    said = orjson.loads(text)
    return str(said["epoch"]), int(said["counted"])


def _count_answer(answer: tuple[str, tuple[int, bytes] | None]) -> tuple[str, tuple[str, int] | None]:
    at, found = answer
    return at, None if found is None else _count_of(found[1])
