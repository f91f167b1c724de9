"""The builder at work: it claims tasks and carries them out, in lanes that do not wait for each other.

Imports take minutes, releases seconds, single registrations milliseconds; each kind has a lane (a thread) of its own.
A task that is interrupted, by a signal or by power loss, is claimed again by whoever comes next, once this builder no
longer counts as alive; every kind of task can be repeated from any point.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Final, get_args

from discovery.keeper import LeaseKeeper
from discovery.membership import BUILDER
from discovery.snapshot import Member
from registry.errors import AwayError, Problem
from registry.failpoints import failpoint
from registry.records import Task, TaskKind
from registry.tasks import claim, claimable, prune
from workers.builder import importing, registering, releasing
from workers.builder.context import AbandonedError, Bench, BuilderContext, ClaimLostError, problem_json
from workers.errors import BuilderFailedError

log = logging.getLogger("manymodels.builder")

FAILPOINTS: Final = ("task.claimed",)
KINDS: Final[tuple[TaskKind, ...]] = get_args(TaskKind)
ALIVE_SECONDS: Final = 0.25  # how long a look at the members is good for
BUSY_SECONDS: Final = 0.5  # rest before a database that is away is asked again
REPORT_SECONDS: Final = 30.0  # between two lines that say that the house's state is away
IDLE_SECONDS: Final = 60.0  # without an import, then the children of imports end
WARM_SECONDS: Final = 3.0  # without a registration, then a child is started for the next
KEEP_TASKS_SECONDS: Final = 7 * 86_400.0  # how long the outcome of a task can be asked for
MOST_CLAIMS: Final = 10  # a task that ended so many builders is not given to another

_WORK: Final[Mapping[TaskKind, Callable[[BuilderContext, Bench, Task], None]]] = {
    "prove": registering.register,
    "import": importing.run_import,
    "release": releasing.release,
}
_REFUSE: Final[Mapping[TaskKind, Callable[[BuilderContext, Task, Mapping[str, Any]], None]]] = {
    "prove": registering.refuse,
    "import": importing.refuse,
    "release": releasing.refuse,
}
# What a lane does that had no work for so long. A child that waits for the next registration is not started at once,
# for its imports would hold up the processes that start with this one; the memory of an import's children is better
# used by serving.
_AT_REST: Final[Mapping[TaskKind, tuple[float, Callable[[Bench], None]]]] = {
    "prove": (WARM_SECONDS, lambda bench: bench.interactive.warm()),
    "import": (IDLE_SECONDS, Bench.close_bulk),
}


class BuilderService:
    """One builder.

    Attributes:
        id: the member it is while it works, and the claimant of its tasks.
    """

    def __init__(self, context: BuilderContext, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is started or joined yet; `clock` tells monotonic seconds."""
        self.id = f"builder-{uuid.uuid4().hex[:16]}"
        self._context = context
        self._clock = clock
        self._looked = -ALIVE_SECONDS
        self._others: frozenset[str] = frozenset()
        self._turn = threading.Condition()
        self._resting: set[TaskKind] = set()  # lanes without work
        # Version of the registry, other living members and resting lanes when there was no work for them.
        self._nothing: tuple[int, frozenset[str], frozenset[TaskKind]] | None = None
        self._report_at = 0.0
        self._done = threading.Event()  # some lane has finished a task

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set: current short tasks are finished, a running import is abandoned."""
        with self._as_member(), closing(Bench.of(self._context.settings, stop)) as bench:
            lanes = [threading.Thread(target=self._lane, args=(kind, bench), name=f"builder-{kind}") for kind in KINDS]
            for lane in lanes:
                lane.start()
            self._watch(stop)
            for lane in lanes:
                lane.join()

    def run_until_idle(self, bench: Bench) -> int:
        """Do all work there is, in this thread and with these children; answers how many tasks were carried out.

        Raises:
            DatabaseBusyError: if SQL is away when the next task should be claimed.
        """
        done = 0
        with self._as_member():
            while self.step(KINDS, bench):
                done += 1
        return done

    def step(self, kinds: Iterable[TaskKind], bench: Bench) -> bool:
        """Claim and carry out one task of these kinds; False if there is none.

        Raises:
            DatabaseBusyError: if SQL is away; nothing was claimed.
        """
        wanted = tuple(kinds)
        if not self.is_wanted(wanted):
            return False
        with self._context.database.write() as conn:
            task = claim(conn, self.id, self._living_others(), wanted, self._context.clock())
        if task is None:
            return False
        failpoint("task.claimed")
        self._carry_out(task, bench)
        return True

    def is_wanted(self, kinds: Iterable[TaskKind] = KINDS) -> bool:
        """Whether a task of these kinds can be claimed; for a lane that works on none.

        Raises:
            DatabaseBusyError: if SQL is away.
        """
        others = self._living_others()
        with self._context.database.read() as conn:
            return claimable(conn, others, tuple(kinds))

    @contextmanager
    def _as_member(self) -> Iterator[None]:
        settings = self._context.settings
        member = Member(self.id, "", "alive", (BUILDER,), {"pid": str(os.getpid())})
        keeper = LeaseKeeper(self._context.membership, member, ttl=settings.lease_seconds)
        keeper.start()
        try:
            self._prune()
            yield
        finally:
            keeper.stop()

    def _prune(self) -> None:
        try:
            with self._context.database.write() as conn:
                prune(conn, self._context.clock() - KEEP_TASKS_SECONDS)
        except AwayError as error:  # the next start will
            self._report("old tasks stay", error)

    def _lane(self, kind: TaskKind, bench: Bench) -> None:
        while not bench.stop.is_set():
            try:
                if not self.step((kind,), bench):
                    self._rest(kind, bench)
            except Exception as error:  # noqa: BLE001 - a lane that died would leave its kind of work undone
                self._report("no work can be claimed, or no child started for it", error)
                bench.stop.wait(BUSY_SECONDS)

    def _rest(self, kind: TaskKind, bench: Bench) -> None:
        """Wait until there is work of this kind, or no more is wanted."""
        with self._turn:
            self._resting.add(kind)
        seconds, then = _AT_REST.get(kind, (None, None))
        try:
            if not self._await_turn(kind, bench.stop, seconds) and then is not None:
                then(bench)
                self._await_turn(kind, bench.stop, None)
        finally:
            with self._turn:
                self._resting.discard(kind)

    def _await_turn(self, kind: TaskKind, stop: threading.Event, seconds: float | None) -> bool:
        with self._turn:
            return self._turn.wait_for(lambda: kind not in self._resting or stop.is_set(), seconds)

    def _watch(self, stop: threading.Event) -> None:
        """Look for work on behalf of all lanes that rest: one short read a poll, however many lanes there are."""
        while not stop.is_set():
            try:
                self._wake_lanes()
            except Exception as error:  # noqa: BLE001 - without a watch no lane would ever wake
                self._report("no work can be looked for", error)
                stop.wait(BUSY_SECONDS)
            self._done.wait(self._context.settings.poll_seconds)
            self._done.clear()
        with self._turn:
            self._turn.notify_all()

    def _wake_lanes(self) -> None:
        with self._turn:
            resting = frozenset(self._resting)
        if not resting:
            return
        others = self._living_others()
        seen = (self._context.database.version(), others, resting)
        if seen == self._nothing:
            return
        with self._context.database.read() as conn:
            if not claimable(conn, others, resting):
                self._nothing = seen
                return
            found = {kind for kind in resting if claimable(conn, others, (kind,))}
        with self._turn:
            self._resting -= found
            self._turn.notify_all()

    def _carry_out(self, task: Task, bench: Bench) -> None:
        try:
            while not self._try(task, bench):
                log.warning("task %d (%s) waits for the database or the members", task.id, task.kind)
                if bench.stop.wait(BUSY_SECONDS):
                    return
        except AbandonedError:
            log.info("task %d (%s) is abandoned and will be claimed again", task.id, task.kind)
        except ClaimLostError:
            log.info("task %d (%s) belongs to another builder now", task.id, task.kind)
        self._done.set()  # it may have left work for another lane

    def _try(self, task: Task, bench: Bench) -> bool:
        """Carry out a task or record why not; False if the house's state is away, so that it must be tried again."""
        try:
            problem = self._work(task, bench)
            if problem is not None:
                log.info("task %d (%s, group %s) is refused: %s", task.id, task.kind, task.group, problem.detail)
                _REFUSE[task.kind](self._context, task, problem_json(problem))
        except AwayError:
            return False
        return True

    def _work(self, task: Task, bench: Bench) -> Problem | None:
        if task.fence > MOST_CLAIMS:
            return BuilderFailedError(f"{MOST_CLAIMS} builders ended while they worked on this")
        try:
            _WORK[task.kind](self._context, bench, task)
        except (AwayError, AbandonedError, ClaimLostError):
            raise
        except Problem as problem:
            return problem
        except Exception as error:
            log.exception("task %d (%s, group %s) failed", task.id, task.kind, task.group)
            return BuilderFailedError(f"the builder failed unexpectedly ({type(error).__name__}); its log says more")
        return None

    def _living_others(self) -> frozenset[str]:
        """Ids of the other members whose claims stand.

        A claim of our own that a lane meets while it works on nothing was lost on the way: made, and never answered.
        """
        now = self._clock()
        if now - self._looked >= ALIVE_SECONDS:
            members = self._context.membership.members()
            self._others = frozenset(member.id for member in members if member.state != "dead") - {self.id}
            self._looked = now
        return self._others

    def _report(self, what: str, error: Exception) -> None:
        """Log what happens when the house's state is away in one line, now and then; all else as the bug it is."""
        if not isinstance(error, AwayError):
            log.error("%s", what, exc_info=error)
        elif self._clock() >= self._report_at:
            self._report_at = self._clock() + REPORT_SECONDS
            log.warning("%s: %s", what, error)
