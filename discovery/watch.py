"""The watcher: one thread a process that keeps the current snapshot current.

It asks for the revision every few hundredths of a second, which costs one cheap read, and builds a snapshot only when
that moved, a member changed state or a hold ended. What serves is mapped before a snapshot becomes current, so a
request that fixes the current snapshot never waits and never meets a release that is not there. When SQL, the leases
or the artifacts are away, the last snapshot stays.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from discovery.adoption import Adoption, to_adopt, to_announce, to_show
from discovery.errors import SnapshotUnavailableError
from discovery.membership import Membership
from discovery.saved import SavedSnapshot
from discovery.snapshot import Revision, Snapshot
from discovery.snapshots import Manifests, join_revisions, read_snapshot
from discovery.waiters import Waiters
from registry.artifacts.store import ArtifactStore
from registry.database import Database
from registry.revision import read_revision

log = logging.getLogger("manymodels.discovery")

REREAD_SECONDS: Final = 30.0
LONGEST_PAUSE: Final = 1.0
LONGEST_RETRY: Final = 10.0
LOOK_SECONDS: Final = 0.25

Adopt = Callable[[Snapshot], Adoption]


class SnapshotWatcher:
    """Owns `current`, which any thread or coroutine reads without a lock.

    Polls never overlap: the thread's own and those that `refresh` asks for run one after another. `adopt` is called
    from a poll, in order of revisions, before the snapshot is shown. Its thread lives from `start` to `stop`.

    Attributes:
        failures: polls since the start that failed, so that the last snapshot, or a group in it, stayed as it was.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        membership: Membership,
        adopt: Adopt | None = None,
        *,
        member_id: str | None = None,
        saved: SavedSnapshot | None = None,
        interval: float = 0.05,
        max_waiters: int = 1000,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read yet.

        `adopt` maps a snapshot's releases and says which are held; None in a process that serves no models. What it
        holds is announced for `member_id`. What is shown is kept in `saved`, and taken from there where a start can
        read nothing else. `interval` is seconds between polls. `now` tells seconds since 1970, for holds that end,
        `clock` monotonic seconds, for reading again now and then.
        """
        self.current: Snapshot | None = None
        self.failures = 0
        self._database = database
        self._store = store
        self._membership = membership
        self._adopt = adopt
        self._member_id = member_id
        self._saved = saved
        self._interval = interval
        self._now = now
        self._clock = clock
        self._waiters = Waiters(max_waiters)
        self._polling = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshot-watcher", daemon=True)
        self._fresh: Snapshot | None = None
        self._announced: frozenset[tuple[str, int]] = frozenset()
        self._failures_in_a_row = 0
        self._unsettled_in_a_row = 0
        self._retry_at = math.inf
        self._read_at = 0.0
        self._look_at = -math.inf
        self._changes = ("", 0)
        self._version = 0
        self._revision: tuple[str, int] | None = None

    def start(self) -> None:
        """Poll a first time, then go on in a thread of its own.

        Where that poll fails, the saved snapshot is shown; without one `current` stays None a while.
        """
        self._poll_once()
        if self.current is None and self._saved is not None:
            self._show_saved(self._saved)
        self._thread.start()

    def stop(self) -> None:
        """End the long polls and the thread. The current snapshot stays readable. Stopping twice is fine."""
        self._stopping.set()
        self._waiters.close()
        if self._thread.is_alive():
            self._thread.join()
        self._keep(at_once=True)

    def end_waits(self) -> None:
        """End all long polls now and from now on, for a process that drains; watching goes on."""
        self._waiters.close()

    def refresh(self) -> Snapshot:
        """Poll now and answer what is current then; blocks for one poll and is meant for after a write of one's own.

        A poll that fails is counted and the last snapshot answered.

        Raises:
            SnapshotUnavailableError: if not even a first snapshot could be read.
        """
        self._look_at = -math.inf
        self._poll_once()
        return self._shown()

    async def wait(self, since: Revision | None, timeout: float) -> Snapshot:  # noqa: ASYNC109 - its end is an answer
        """The current snapshot as soon as its revision is not `since`, after `timeout` seconds, or at `stop`.

        Any other revision answers at once: an older one, one of an unknown epoch, one that is ahead of this process.

        Raises:
            WatchersFullError: if too many long polls are under way.
            SnapshotUnavailableError: if there is no snapshot even then.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self._is_news(since):
                    async with self._waiters.woken() as woken:
                        if self._is_news(since):  # shown between the look and the enrolment
                            break
                        await woken
                    if self._waiters.closed:
                        break
        except TimeoutError:
            pass
        return self._shown()

    def _is_news(self, since: Revision | None) -> bool:
        return self.current is not None and self.current.revision != since

    def _shown(self) -> Snapshot:
        if self.current is None:
            raise SnapshotUnavailableError("no first snapshot could be read yet; see the log")
        return self.current

    def _run(self) -> None:
        while not self._stopping.wait(self._pause()):
            self._poll_once()

    def _pause(self) -> float:
        """Seconds to the next poll: doubled with each failure in a row."""
        return _backed_off(self._interval, self._failures_in_a_row, max(LONGEST_PAUSE, self._interval))

    def _poll_once(self) -> None:
        with self._polling:
            try:
                self._poll()
            except Exception as error:  # noqa: BLE001 - a watcher that died would show yesterday for ever
                self.failures += 1
                self._failures_in_a_row += 1
                self._look_at = -math.inf  # else a poll that looks at less would pass for a success
                if self._failures_in_a_row == 1:
                    log.warning("the last snapshot stays: %s: %s", type(error).__name__, error)
            else:
                self._failures_in_a_row = 0
            self._keep()

    def _keep(self, *, at_once: bool = False) -> None:
        if self._saved is not None and self.current is not None:
            self._saved.keep(self.current, at_once=at_once)

    def _poll(self) -> None:
        """Bring `current` up to date. What it leaves undone by raising, the next poll finds undone."""
        if self._fresh is not None and not self._moved(self._fresh):
            return
        fresh = read_snapshot(self._database, self._store, self._membership, self._fresh, self._now())
        if self._adopt is None:
            self._show(fresh)
        else:
            ready = self._adopt(to_adopt(fresh, self.current)).ready
            shown, settled = to_show(fresh, self.current, ready)
            self._show(shown)
            self._announce(to_announce(fresh, ready))
            unread = fresh.unreadable or any(view.unread for view in fresh.groups.values())
            self._plan_retry(settled and not unread)
        self._fresh, self._read_at, self._look_at = fresh, self._clock(), -math.inf

    def _show_saved(self, saved: SavedSnapshot) -> None:
        kept = saved.load(Manifests(self._store, None).get)
        if kept is not None:
            log.warning("the picture of an earlier life is served until the registry can be read")
            if self._adopt is not None:
                self._adopt(kept)
            self._show(kept)

    def _moved(self, fresh: Snapshot) -> bool:
        """Whether there is reason to read again; every so often there is without one, should a count be missed."""
        return (
            self._clock() >= min(self._retry_at, self._read_at + REREAD_SECONDS)
            or (fresh.expires is not None and self._now() >= fresh.expires)
            or self._members_moved(fresh)
            or join_revisions(self._registry_revision(), self._changes) != fresh.revision
        )

    def _members_moved(self, fresh: Snapshot) -> bool:
        """Whether a member changed state; looked at less often than the registry, because members take seconds."""
        if self._clock() < self._look_at:
            return False
        self._changes = self._membership.changes()
        self._look_at = self._clock() + LOOK_SECONDS
        return self._membership.members() != fresh.members

    def _registry_revision(self) -> tuple[str, int]:
        version = self._database.version()  # before the revision: what is committed in between is seen next time
        if self._revision is None or version != self._version:
            with self._database.read() as connection:
                self._revision = read_revision(connection)
            self._version = version
        return self._revision

    def _plan_retry(self, settled: bool) -> None:
        """Try again later what could not be mapped, without slowing the polls that other groups live by."""
        if settled:
            self._unsettled_in_a_row, self._retry_at = 0, math.inf
            return
        self.failures += 1
        self._unsettled_in_a_row += 1
        if self._unsettled_in_a_row == 1:
            log.warning("a live release could not be read or mapped here; its group stays as it was")
        self._retry_at = self._clock() + _backed_off(self._interval, self._unsettled_in_a_row, LONGEST_RETRY)

    def _show(self, shown: Snapshot) -> None:
        """Make a snapshot current under a revision greater than any this process has shown."""
        current = self.current
        if current is not None and shown.revision.epoch == current.revision.epoch:
            behind = current.revision.number - shown.revision.number
            if behind == 0 and shown.same_picture(current):
                return
            if behind >= 0:  # time, not a write, changed the picture: count that, for every process to see
                self._membership.bump(behind + 1)
                shown = replace(shown, revision=replace(current.revision, number=current.revision.number + 1))
        self.current = shown
        self._waiters.wake()

    def _announce(self, prepared: frozenset[tuple[str, int]]) -> None:
        if self._member_id is not None and prepared != self._announced:
            self._membership.announce(self._member_id, prepared)
            self._announced = prepared


def _backed_off(interval: float, failures: int, longest: float) -> float:
    doubled: float = interval * 2.0 ** min(failures, 16)
    return min(doubled, longest)
