"""One call on its way to a worker: whom it has tried, what became of that, and how long it may still take."""

import asyncio
from functools import partial
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
    """One call to one of these workers. A worker that refuses connections is passed over at no cost."""

    def __init__(self, means: Means, candidates: Candidates, spread: int) -> None:
        """`spread`: over how many of the candidates, see `choose`."""
        self._means = means
        self._candidates = candidates
        self._spread = spread
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + means.seconds
        self._tried: list[Upstream] = []
        self._sends = 0
        self._failed: Problem | None = None
        means.budget.called(self._loop.time())

    def begin(self, frame: bytes) -> "asyncio.Future[ScoreAnswer]":
        """The answer of a call that a warm model answers at once, on its way.

        It goes with others; should that fail, or the model be cold, it goes on alone, by a task.

        Raises:
            Problem: if nobody can be asked, OverloadedError if all have too much to do. What a worker refused it with
                is in the future.
        """
        upstream = self._next()
        while not upstream.admits(self._loop.time()):
            self._sends -= 1  # it was not sent
            self._failed = OverloadedError("the workers that serve this key have too much to do; try again in a moment")
            upstream = self._next()
        answered: asyncio.Future[ScoreAnswer] = self._loop.create_future()
        self._out = 1
        sent = upstream.now(frame, partial(self._ask_beside, answered, frame))
        sent.add_done_callback(partial(self._arrived, answered, upstream, frame))
        return answered

    def _arrived(
        self,
        answered: "asyncio.Future[ScoreAnswer]",
        upstream: Upstream,
        frame: bytes,
        sent: "asyncio.Future[tuple[memoryview, memoryview]]",
    ) -> None:
        answer: Answer | ConnectionLostError
        try:
            answer = _told(self._means.answers.read(*sent.result()))
        except (ConnectionLostError, Problem) as error:
            answer = error
        self._settle(answered, upstream, frame, answer)

    def _ask_beside(self, answered: "asyncio.Future[ScoreAnswer]", frame: bytes) -> None:
        """The first try takes long: ask another worker as well, if there is one and the budget allows.

        Else the first goes on alone. Where all workers are slow, as on a machine with too much to do, to give up what
        they were asked would only lose it.
        """
        if answered.done() or self._sends >= SENDS:
            return
        try:
            upstream = self._next()
        except Problem:
            return
        self._out += 1
        self._beside = self._loop.create_task(self._second(answered, upstream, frame))

    async def _second(self, answered: "asyncio.Future[ScoreAnswer]", upstream: Upstream, frame: bytes) -> None:
        answer = await self._ask(upstream, ALONE, frame, patient=False)
        self._settle(answered, upstream, frame, answer)

    def _settle(
        self,
        answered: "asyncio.Future[ScoreAnswer]",
        upstream: Upstream,
        frame: bytes,
        answer: Answer | ConnectionLostError,
    ) -> None:
        """Take what a try came to: the first answer is the call's; a failure only if no other try is under way."""
        self._out -= 1
        if answered.done():
            return
        if isinstance(answer, ScoreAnswer):
            answered.set_result(answer)
        elif self._out == 0 or (isinstance(answer, Problem) and answer.code not in ELSEWHERE):
            self._task = self._loop.create_task(self._go_on(answered, upstream, frame, answer))
        elif isinstance(answer, ConnectionLostError) and not answer.sent:
            self._sends -= 1  # nobody was there, so the next may be asked
            self._ask_beside(answered, frame)

    async def _go_on(
        self,
        answered: "asyncio.Future[ScoreAnswer]",
        upstream: Upstream,
        frame: bytes,
        answer: Answer | ConnectionLostError,
    ) -> None:
        """What follows a first try that was no answer."""
        try:
            if isinstance(answer, Cold):
                answer = await self._ask(upstream, ALONE, frame, patient=False)
            found = answer if isinstance(answer, ScoreAnswer) else await self._elsewhere(frame, answer)
        except Exception as error:  # noqa: BLE001 - whoever awaits the answer is told
            if not answered.done():
                answered.set_exception(error)
        else:
            if not answered.done():
                answered.set_result(found)

    async def _elsewhere(self, frame: bytes, answer: Answer | ConnectionLostError) -> ScoreAnswer:
        self._note(answer)
        return await self._answered(ALONE, frame, patient=False)

    async def waiting(self, path: bytes, frame: bytes) -> ScoreAnswer:
        """The answer of a call that may take its time.

        Raises:
            Problem: what the worker refused it with, or why none could be asked.
        """
        return await self._answered(path, frame, patient=True)

    async def _answered(self, path: bytes, frame: bytes, *, patient: bool) -> ScoreAnswer:
        while True:
            answer = await self._ask(self._next(), path, frame, patient=patient)
            if isinstance(answer, ScoreAnswer):
                return answer
            self._note(answer)

    async def _ask(
        self, upstream: Upstream, path: bytes, frame: bytes, *, patient: bool
    ) -> Answer | ConnectionLostError:
        left = max(self._until - self._loop.time(), 0.01)
        try:
            return _told(self._means.answers.read(*await upstream.alone(path, frame, left, patient=patient)))
        except (ConnectionLostError, Problem) as error:
            return error

    def _next(self) -> Upstream:
        """Whom to ask now. Raises what became of the last try if there is nobody, no time, or no budget left."""
        now = self._loop.time()
        upstream = choose(self._candidates, self._tried, now, self._spread)
        if upstream is None or self._sends >= SENDS or now >= self._until:
            raise self._failed or WorkersUnreachableError("there is no worker that serves this key now")
        if self._sends:
            if not self._means.budget.take(now):
                REFUSED_RETRIES.inc()
                raise self._failed or WorkersUnreachableError("too many calls are being tried again already")
            RETRIES.inc()
        self._tried.append(upstream)
        self._sends += 1
        return upstream

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
