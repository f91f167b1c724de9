"""The worker's end of the hop: calls of a body answered by the worker of this process.

Calls that came together are answered at once or not at all: what would have to wait (a cold model, many rows) is told
so, and asked again by itself, so that no call waits for its neighbour's load.
"""

import asyncio
from typing import Final

import orjson

from registry.errors import Problem
from workers.client import ScoreAnswer, ScoreCall, WorkerClient
from workers.errors import DeadlineError, HopInvalidError
from workers.holdings import Holdings
from workers.hop.frames import COLD, Frame, answer_frame, framed, frames, read_call
from workers.metrics import HOP_CALLS

MOST_SECONDS: Final = 3600.0
_TOGETHER: Final = HOP_CALLS.labels("together")
_ALONE: Final = HOP_CALLS.labels("alone")


class HopDesk:
    """Answers hops. For the event loop of one process."""

    def __init__(self, worker: WorkerClient, holdings: Holdings) -> None:
        self._worker = worker
        self._holdings = holdings

    def answer_now(self, body: bytes) -> bytes:
        """The answers of all calls of a body, in order; `COLD` for those that would have to wait.

        Raises:
            HopInvalidError: if the body is not made of calls.
        """
        answers = [self._now(read_call(head, numbers)) for head, numbers in frames(body)]
        _TOGETHER.inc(len(answers))
        return b"".join(answers)

    def _now(self, call: ScoreCall) -> bytes:
        try:
            self._check(call)
            answer: ScoreAnswer | Problem | None = self._worker.score_now(call)
        except Problem as problem:
            answer = problem
        except Exception:  # noqa: BLE001 - asked by itself it is told, and its neighbours here have their answers
            return COLD
        return COLD if answer is None else answer_frame(answer, call.release)

    async def answer(self, body: bytes, seconds: float) -> bytes:
        """The answer of the one call of a body, waited for so many seconds.

        Raises:
            HopInvalidError: if the body is not one call.
        """
        [(head, numbers)] = _one(body)
        call = read_call(head, numbers)
        _ALONE.inc()
        try:
            self._check(call)
            async with asyncio.timeout(min(max(seconds, 0.0), MOST_SECONDS)):
                answer: ScoreAnswer | Problem = await self._worker.score(call)
        except TimeoutError:
            answer = DeadlineError(f"the worker had no answer within {seconds:g} s")
        except Problem as problem:
            answer = problem
        return answer_frame(answer, call.release)

    async def resolve(self, body: bytes) -> bytes:
        """Which model would answer: a frame of group, release, key, deepest level and identities on hold."""
        [(head, _)] = _one(body)
        try:
            group, release, key, level, disabled = orjson.loads(head)
            held = frozenset(map(bytes.fromhex, disabled))
            use = await self._worker.resolve(group, release, tuple(key), level, held)
        except Problem as problem:
            return answer_frame(problem, 0)
        except (ValueError, TypeError) as error:
            raise HopInvalidError(f"no question: {error}") from error
        return framed([1, use.release, 0, 0, [[use.key, use.version, use.fallback_level, use.trained_through]], []])

    def _check(self, call: ScoreCall) -> None:
        """The kernel believes that rows have as many inputs as their release's signature."""
        held = self._holdings.get(call.group, call.release)
        if held is not None and held.signature.shape[0] != call.features.width:
            raise HopInvalidError(f"rows of {call.features.width} inputs are none of release {call.release}")


def _one(body: bytes) -> list[Frame]:
    found = list(frames(body))
    if len(found) != 1:
        raise HopInvalidError(f"{len(found)} calls where one is taken")
    return found
