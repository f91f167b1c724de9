"""A sandbox: one process in which native models run, each in its turn, so that none can take a worker with it.

What a model does to its process stays there. A crash or a late answer fails the rows that were being answered and
nobody else's: the process is replaced, models that were in it are loaded again as they are asked for, and what waited
behind the one to blame goes on. Who does it three times is in quarantine.

One thread of its own talks to the process; callers on any thread wait for futures. What waits goes over together, as
calls between gateway and worker do, because to wake the other side costs more than most models; of slow models fewer
go together. Single predicts and the rows of bulks take turns, and a single predict before which too many others wait
is refused.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from registry.errors import Problem
from workers.children.pool import ChildDiedError
from workers.errors import ModelLoadError, OverloadedError, PredictionFailedError
from workers.features import Features, Matrix
from workers.resolving import Resolved
from workers.runtimes.runtime import Binding
from workers.sandbox.process import Limits, ModelProcess
from workers.sandbox.quarantine import Quarantine
from workers.sandbox.wire import LoadOrder, Refused, predict_order
from workers.shedding import Gate

log = logging.getLogger("manymodels.workers")

Outcome = Matrix | Problem
MOST_TOGETHER: Final = 64


class SandboxedModel:
    """A model that was loaded in a sandbox; what a cache holds of it. The sandbox forgets it when this object goes."""

    __slots__ = ("identity", "number", "sandbox", "width")

    def __init__(self, sandbox: "Sandbox", number: int, resolved: Resolved) -> None:
        self.sandbox = sandbox
        self.number = number
        self.identity = resolved.identity
        self.width = resolved.signature.width

    def __del__(self) -> None:
        self.sandbox.drop(self.number)


@dataclass(frozen=True, slots=True)
class Task:
    """Rows for one model. `resolved` tells where it lies, should it have to be loaded again."""

    model: SandboxedModel
    resolved: Resolved
    features: Features


class _Call:
    """Tasks that came together, and the future of their outcomes in the loop that waits for them."""

    __slots__ = ("_left", "future", "loop", "outcomes", "tasks")

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.outcomes: list[Outcome | None] = [None] * len(tasks)
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Outcome]] = self.loop.create_future()
        self._left = len(tasks)

    def settle(self, place: int, outcome: Outcome) -> bool:
        """Note an outcome; whether it was the last."""
        self.outcomes[place] = outcome
        self._left -= 1
        return not self._left

    def deliver(self) -> None:
        """In its loop: wake whoever waits, unless that one has given up."""
        if not self.future.done():
            self.future.set_result([found for found in self.outcomes if found is not None])


@dataclass(slots=True)
class _Place:
    """One task of a call."""

    call: _Call
    at: int
    task: Task
    settled: bool = False
    was_tight: bool = False

    def settle(self, outcome: Outcome, whole: list[_Call]) -> None:
        """Note its outcome; a call that has all of its outcomes now joins those that are whole."""
        self.settled = True
        if self.call.settle(self.at, outcome):
            whole.append(self.call)


class _Line:
    """What waits for its turn, and who is let in."""

    def __init__(self, seconds: float) -> None:
        self.places: deque[_Place] = deque()
        self.gate = Gate(seconds)

    def turn(self) -> list[_Place]:
        """Take out those whose turn it is."""
        return [self.places.popleft() for _ in range(min(len(self.places), self.gate.together(MOST_TOGETHER)))]


class Sandbox:
    """Safe from any thread. Its process is started when it is first needed and lives until `close`."""

    def __init__(self, limits: Limits, quarantine: Quarantine, *, name: str) -> None:
        self._process = ModelProcess(limits)
        self._quarantine = quarantine
        # A child dies with the thread that started it, so the thread that talks to it starts it, and stays.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._singles, self._bulks = _Line(limits.queue_seconds), _Line(limits.queue_seconds)
        self._last = self._bulks  # who had the last turn
        self._has_turn = False
        self._dropped: deque[int] = deque()
        self._closing = False

    def bring(self, model: SandboxedModel, resolved: Resolved, runtime: str, data: bytes) -> "Future[None]":
        """Load a model.

        The future raises ArtifactInvalidError, SignatureMismatchError: from its runtime; ModelLoadError: if loading it
        ends the process; ModelQuarantinedError: if it did that too often.
        """
        return self._thread.submit(self._bring, model, resolved, runtime, data)

    def predict(self, tasks: Sequence[Task], *, patient: bool) -> "asyncio.Future[list[Outcome]]":
        """Have models answer, one after another; a refusal of one is its outcome. Called in an event loop.

        Raises:
            OverloadedError: if too many wait already; never for who is patient, as a bulk is.
        """
        call = _Call(tasks)
        with self._lock:
            line = self._bulks if patient else self._singles
            if not patient and not line.gate.admits(time.monotonic(), len(line.places), busy=self._has_turn):
                raise OverloadedError("too many requests wait for models in sandboxes; try again in a moment")
            line.places.extend(_places(call))
            if self._has_turn:
                return call.future
            self._has_turn = True
        self._next_turn()
        return call.future

    def drop(self, number: int) -> None:
        """Forget a model, when the next one is loaded."""
        self._dropped.append(number)

    def close(self) -> None:
        """End the process. Calls that wait are refused, as is the one under way."""
        self._closing = True
        self._process.kill()
        self._thread.shutdown(wait=True)
        self._process.end()

    # All below runs in the one thread.

    def _turn(self) -> None:
        """Answer some that wait; what came meanwhile has the next turn, behind loads that came before it."""
        with self._lock:
            other = self._singles if self._last is self._bulks else self._bulks
            self._last = line = other if other.places else self._last
            places = [place for place in line.turn() if not place.call.future.cancelled()]
        try:
            self._answer(places, line)
        except Exception:
            log.exception("a sandbox failed")
            self._process.end("lost")  # what it would answer next belongs to nobody
            left = [place for place in places if not place.settled]
            _deliver(_refused(left, ModelLoadError("the sandbox failed; the worker's log says more")))
        with self._lock:
            self._has_turn = bool(self._singles.places or self._bulks.places)
        if self._has_turn:
            self._next_turn()

    def _next_turn(self) -> None:
        try:
            self._thread.submit(self._turn)
        except RuntimeError:  # it closes: they are refused here
            self._turn()

    def _answer(self, places: Sequence[_Place], line: _Line) -> None:
        while places:
            whole: list[_Call] = []
            for place in places:
                problem = self._missing(place.task)
                if problem is not None:
                    place.settle(problem, whole)
            _deliver(whole)
            # A process that was lost with one load has lost the earlier ones: they have another round.
            ready = [p for p in places if not p.settled and p.task.model.number in self._process.inside]
            if ready:
                began = time.monotonic()
                if self._ask(ready):
                    now = time.monotonic()
                    line.gate.answered(now, now - began, len(ready), behind=len(line.places))
            places = [place for place in places if not place.settled]

    def _ask(self, places: Sequence[_Place]) -> bool:
        """Ask some models until all have answered, or the process is lost; answers whether all did."""
        orders = [predict_order(place.task.model.number, place.task.features) for place in places]
        waiting = deque(places)
        try:
            for outcomes in self._process.predict(orders, [place.task.model.width for place in places]):
                if not self._settle(waiting, outcomes):
                    return False
        except ModelLoadError as problem:
            _deliver(_refused(waiting, problem))
        except ChildDiedError as error:
            if not waiting:  # all have answered: nobody is to blame
                self._process.end("lost")
                return False
            # What came before the one to blame, and had no answer yet, is asked once more.
            blamed = places[min(max(len(places) - len(waiting), self._process.at), len(places) - 1)]
            _deliver(_refused([blamed], PredictionFailedError(f"the model {self._blamed(blamed.task.model, error)}")))
        else:
            return True
        return False

    def _settle(self, waiting: deque[_Place], outcomes: Sequence[Matrix | Refused]) -> bool:
        """Give the first that wait their outcomes; whether the process may go on with the others."""
        whole: list[_Call] = []
        tight = False
        for outcome in outcomes:
            place = waiting.popleft()
            if not isinstance(outcome, Refused):
                place.settle(outcome, whole)
            elif outcome.tight and not place.was_tight:
                place.was_tight = tight = True  # once more, in a process where it is among the first
            else:
                place.settle(outcome.problem, whole)
        _deliver(whole)
        if tight:
            self._process.end("tight")
        return not tight

    def _missing(self, task: Task) -> Problem | None:
        """Have a model in the process; answers why it cannot be."""
        try:
            self._quarantine.check(task.model.identity)
            self._check_open()
            self._process.ready()  # else one that was lost meanwhile would seem to have the model
            if task.model.number not in self._process.inside:
                segment, row = task.resolved.segment, task.resolved.row
                self._bring(task.model, task.resolved, segment.entry(row).runtime, segment.read(row))
        except Problem as problem:
            return problem
        return None

    def _bring(self, model: SandboxedModel, resolved: Resolved, runtime: str, data: bytes) -> None:
        self._quarantine.check(model.identity)
        self._check_open()
        binding = Binding(resolved.signature, model.identity[2])
        order = LoadOrder(model.number, runtime, data, binding, list(self._forgotten()))
        try:
            refused = self._process.load(order)
            if refused is not None and refused.tight:  # the others in there may be to blame
                self._process.end("tight")
                refused = self._process.load(order)
        except (ChildDiedError, ValueError) as error:
            raise ModelLoadError(f"as it was loaded, the model {self._blamed(model, error)}") from error
        if refused is not None:
            raise refused.problem

    def _blamed(self, model: SandboxedModel, error: Exception) -> str:
        """Replace a process whose end a model is to blame for; answers what the model did."""
        late = isinstance(error, ChildDiedError) and error.hung
        self._process.end("late" if late else "crashed")
        if self._closing:
            return "was interrupted, for this worker is stopping"
        strikes = self._quarantine.strike(model.identity)
        said = f"gave no answer in time ({error})" if late else f"ended the process that runs it ({error})"
        log.warning("model %s %s, %d times lately", model.identity[1], said, strikes)
        return said

    def _check_open(self) -> None:
        if self._closing:
            raise ModelLoadError("this worker is stopping")

    def _forgotten(self) -> Iterator[int]:
        with suppress(IndexError):
            while True:
                yield self._dropped.popleft()


def _refused(places: Iterable[_Place], problem: Problem) -> list[_Call]:
    whole: list[_Call] = []
    for place in places:
        place.settle(problem, whole)
    return whole


def _deliver(calls: Sequence[_Call]) -> None:
    """Wake those whose calls are whole: each loop once, for that costs as much as a quick model."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
    for call in calls:
        by_loop.setdefault(call.loop, []).append(call)
    for loop, whole in by_loop.items():
        with suppress(RuntimeError):  # it was closed: nobody waits
            loop.call_soon_threadsafe(_wake, whole)


def _wake(calls: Sequence[_Call]) -> None:
    for call in calls:
        call.deliver()


def _places(call: _Call) -> Iterator[_Place]:
    for at, task in enumerate(call.tasks):
        yield _Place(call, at, task)
