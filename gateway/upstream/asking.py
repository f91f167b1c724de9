"""One call on its way to a worker: whom it has tried, what became of that, and how long it may still take."""

import asyncio
from typing import Final, NamedTuple

from gateway.metrics import REFUSED_RETRIES, RETRIES
from gateway.upstream.connection import ConnectionLostError
from gateway.upstream.routes import Candidates, choose
from gateway.upstream.upstream import Upstream
from manymodels.retries import ELSEWHERE, RetryBudget
from registry.errors import Problem
from workers.client import ScoreAnswer
from workers.errors import OverloadedError, WorkersUnreachableError
from workers.hop.frames import Answer, AnswerFrames, Cold
from workers.hop.routes import ALONE

SENDS: Final = 2  # of one call: once, and once more elsewhere


class Means(NamedTuple):
    """What all calls of a process share: the retry budget, the reader of answers, and seconds that a call may take."""

    budget: RetryBudget
    answers: AnswerFrames
    seconds: float


class Asking:
    """One call to one of these workers. A worker that refuses connections is passed over at no cost.

    Attributes:
        frame: the call as it is sent.
    """

    __slots__ = (
        "_answered",
        "_candidates",
        "_failed",
        "_loop",
        "_means",
        "_out",
        "_paid",
        "_sends",
        "_spread",
        "_tasks",
        "_tried",
        "_until",
        "frame",
    )

    def __init__(self, means: Means, candidates: Candidates, spread: int) -> None:
        """`spread`: over how many of the candidates, see `choose`."""
        self.frame = b""
        self._means = means
        self._candidates = candidates
        self._spread = spread
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._until = now + means.seconds
        self._answered: asyncio.Future[ScoreAnswer] = self._loop.create_future()  # of a call that begins with others
        self._tried: list[Upstream] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._sends = 0
        self._paid: bool | None = None  # whether the budget has given its second try, once it was asked
        self._out = 0  # tries under way, of such a call
        self._failed: Problem | None = None
        means.budget.called(now)

    def begin(self, frame: bytes) -> "asyncio.Future[ScoreAnswer]":
        """The answer of a call that a warm model answers at once, on its way.

        It goes with others; should that fail, or the model be cold, it goes on alone, by a task.

        Raises:
            Problem: if nobody can be asked, OverloadedError if all have too much to do. What a worker refused it with
                is in the future.
        """
        self.frame = frame
        now = self._loop.time()
        upstream = self._next(now)
        while not upstream.admits(now):
            self._sends -= 1  # it was not sent
            self._failed = OverloadedError("the workers that serve this key have too much to do; try again in a moment")
            upstream = self._next(now)
        self._out = 1
        upstream.now(self)
        return self._answered

    async def waiting(self, path: bytes, frame: bytes) -> ScoreAnswer:
        """The answer of a call that may take its time.

        Raises:
            Problem: what the worker refused it with, or why none could be asked.
        """
        self.frame = frame
        return await self._search(path, patient=True)

    def arrived(self, upstream: Upstream, head: bytes, numbers: memoryview) -> None:
        """See `Call`."""
        try:
            answer = _told(self._means.answers.read(head, numbers))
        except Problem as problem:
            answer = problem
        self._settle(upstream, answer)

    def failed(self, upstream: Upstream, error: ConnectionLostError | Problem) -> None:
        """See `Call`."""
        self._settle(upstream, error)

    def late(self) -> None:
        """See `Call`."""
        self._ask_beside()

    def _ask_beside(self) -> None:
        """The first try takes long: ask another worker as well, if there is one and the budget allows.

        Else the first goes on alone. Where all workers are slow, as on a machine with too much to do, to give up what
        they were asked would only lose it.
        """
        if self._answered.done() or self._sends >= SENDS:
            return
        try:
            upstream = self._next(self._loop.time())
        except Problem:
            return
        self._out += 1
        self._tasks.append(self._loop.create_task(self._second(upstream)))

    async def _second(self, upstream: Upstream) -> None:
        self._settle(upstream, await self._ask(upstream, ALONE, patient=False))

    def _settle(self, upstream: Upstream, answer: Answer | ConnectionLostError) -> None:
        """Take what a try came to: the first answer is the call's; a failure only if no other try is under way."""
        self._out -= 1
        if self._answered.done():
            return
        if isinstance(answer, ScoreAnswer):
            self._answered.set_result(answer)
        elif self._out == 0 or (isinstance(answer, Problem) and answer.code not in ELSEWHERE):
            self._tasks.append(self._loop.create_task(self._go_on(upstream, answer)))
        elif isinstance(answer, ConnectionLostError) and not answer.sent:
            self._sends -= 1  # nobody was there, so the next may be asked
            self._ask_beside()

    async def _go_on(self, upstream: Upstream, answer: Answer | ConnectionLostError) -> None:
        """What follows a first try that was no answer."""
        try:
            if isinstance(answer, Cold):
                answer = await self._ask(upstream, ALONE, patient=False)
            found = answer if isinstance(answer, ScoreAnswer) else await self._elsewhere(answer)
        except Exception as error:  # noqa: BLE001 - whoever awaits the answer is told
            if not self._answered.done():
                self._answered.set_exception(error)
        else:
            if not self._answered.done():
                self._answered.set_result(found)

    async def _elsewhere(self, answer: Answer | ConnectionLostError) -> ScoreAnswer:
        self._note(answer)
        return await self._search(ALONE, patient=False)

    async def _search(self, path: bytes, *, patient: bool) -> ScoreAnswer:
        while True:
            answer = await self._ask(self._next(self._loop.time()), path, patient=patient)
            if isinstance(answer, ScoreAnswer):
                return answer
            self._note(answer)

    async def _ask(self, upstream: Upstream, path: bytes, *, patient: bool) -> Answer | ConnectionLostError:
        left = max(self._until - self._loop.time(), 0.01)
        try:
            frame = await upstream.alone(path, self.frame, left, patient=patient, may_leave=self._may_leave)
            return _told(self._means.answers.read(*frame))
        except (ConnectionLostError, Problem) as error:
            return error

    def _next(self, now: float) -> Upstream:
        """Whom to ask now. Raises what became of the last try if there is nobody, no time, or no budget left."""
        upstream = choose(self._candidates, self._tried, now, self._spread)
        if upstream is None or self._sends >= SENDS or now >= self._until:
            raise self._failed or WorkersUnreachableError("there is no worker that serves this key now")
        if self._sends and not self._pay(now):
            raise self._failed or WorkersUnreachableError("too many calls are being tried again already")
        self._tried.append(upstream)
        self._sends += 1
        return upstream

    def _may_leave(self) -> bool:
        """Whether there is another worker for this call, and the budget gives it a second try."""
        now = self._loop.time()
        if self._sends >= SENDS or choose(self._candidates, self._tried, now, self._spread) is None:
            return False
        return self._pay(now)

    def _pay(self, now: float) -> bool:
        """Whether the budget gives this call its second try: once, however many refuse connections on the way."""
        if self._paid:
            return True
        given = self._means.budget.take(now)
        if given:
            RETRIES.inc()
        elif self._paid is None:
            REFUSED_RETRIES.inc()
        self._paid = given
        return given

    def _note(self, answer: Answer | ConnectionLostError) -> None:
        """Take down what a try came to. Raises it, where another worker would say the same."""
        if isinstance(answer, ConnectionLostError):
            if not answer.sent:
                self._sends -= 1  # nobody was there: that costs nobody anything
            self._failed = WorkersUnreachableError(f"no worker that serves this key could be reached: {answer}")
            return
        assert isinstance(answer, Problem), "a call that goes alone is never cold"
        if answer.code not in ELSEWHERE:
            raise answer
        self._failed = answer


def _told(answer: Answer) -> Answer:
    """An answer whose only key this one worker could not serve, as the problem that it is."""
    if isinstance(answer, ScoreAnswer) and answer.problems and len(answer.models) == 1:
        problem = answer.problems[0]
        return problem if problem.code in ELSEWHERE else answer
    return answer
