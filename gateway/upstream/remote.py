"""Workers across the network as one `WorkerClient`: each call goes to a worker that holds its shard.

A call that finds its worker gone, hanging, draining or without the release is sent once more, alone, to another, and
so are the keys that a worker could not serve for a reason of its own, as a damaged file or a full disk: scoring changes
nothing, so that is always allowed, within a budget. A bulk is split by worker, asked for in parallel and joined in
order. The picture of the workers is the watcher's snapshot, so nothing here needs discovery to be up.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final, TypeVar

from discovery.snapshot import Snapshot
from gateway.upstream.asking import Asking, Means
from gateway.upstream.fleet import UpstreamFleet
from gateway.upstream.routes import Candidates, Route, choose
from gateway.upstream.splitting import Joined, Part, keys_by, part_of, refused
from gateway.upstream.upstream import BATCH_BYTES
from manymodels.retries import ELSEWHERE, RetryBudget
from registry.errors import AwayError, Problem
from workers.client import ModelUse, ScoreAnswer, ScoreCall
from workers.errors import DeadlineError, HopInvalidError, ReleaseNotReadyError, WorkersUnreachableError
from workers.hop.frames import AnswerFrames, call_frame, framed
from workers.hop.routes import ALONE, RESOLVE

T = TypeVar("T")

MANY_KEYS: Final = 500  # from which on keys are sorted by shard in a thread
LARGE_BYTES: Final = 256 * 1024  # from which on a bulk is written in a thread


class RemoteWorkers:
    """A `WorkerClient` over the workers of the current snapshot. For one event loop."""

    def __init__(
        self, snapshot: Callable[[], Snapshot | None], computing: Executor, *, seconds: float, queue_seconds: float
    ) -> None:
        """`snapshot` tells the current one; `computing` runs what would hold up the loop.

        A call may take `seconds`, and wait for so much of a worker's work as `queue_seconds` tell.
        """
        self._fleet = UpstreamFleet(snapshot, queue_seconds)
        self._computing = computing
        self._means = Means(RetryBudget(), AnswerFrames(), seconds)
        self._loop: asyncio.AbstractEventLoop | None = None

    def score_now(self, call: ScoreCall) -> ScoreAnswer | None:
        """See `WorkerClient.score_now`: across the network there is always something to wait for."""
        del call
        return None

    def begin(self, call: ScoreCall) -> "asyncio.Future[ScoreAnswer] | None":
        """See `WorkerClient.begin`: few rows of one key."""
        if call.key_rows is not None:
            return None
        route = self._route(call.group, call.release)
        frame = call_frame(call, route.on_hold(call.keys, call.disabled) if call.disabled else ())
        if len(frame) > BATCH_BYTES:
            return None
        return self._asking(route, call.keys[0]).begin(frame)

    async def score(self, call: ScoreCall) -> ScoreAnswer:
        """See `WorkerClient.score`.

        Raises:
            ReleaseNotReadyError: if no worker that could be asked holds the release.
            WorkersUnreachableError: if none could be reached.
        """
        begun = self.begin(call)
        if begun is not None:
            return await begun
        route = self._route(call.group, call.release)
        if call.key_rows is not None:
            return await self._score_many(route, call)
        frame = call_frame(call, route.on_hold(call.keys, call.disabled))
        return await self._asking(route, call.keys[0]).waiting(ALONE, frame)

    async def resolve(
        self, group: str, release: int, key: tuple[str, ...], max_level: int, disabled: frozenset[bytes]
    ) -> ModelUse:
        """See `WorkerClient.resolve`. Raises as `score` besides."""
        route = self._route(group, release)
        held = [identity.hex() for identity in route.on_hold([key], disabled)]
        question = framed([group, release, key, max_level, held])
        answer = await self._asking(route, key).waiting(RESOLVE, question)
        use = answer.models[0]
        if use is None:
            raise HopInvalidError("a worker named no model")
        return use

    def close(self) -> None:
        """Close idle connections; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._fleet.close)

    def _route(self, group: str, release: int) -> Route:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._fleet.route(group, release)

    def _asking(self, route: Route, key: tuple[str, ...]) -> Asking:
        return Asking(self._means, route.candidates(route.shard(key)), route.spread)

    async def _score_many(self, route: Route, call: ScoreCall) -> ScoreAnswer:
        shards = await self._run(len(call.keys) >= MANY_KEYS, lambda: [route.shard(key) for key in call.keys])
        joined = Joined(call)
        chosen = {shard: self._first(route, shard) for shard in set(shards)}
        by_upstream = keys_by([chosen[shard] for shard in shards])
        await asyncio.gather(
            *(self._score_part(route, joined, call, keys, upstream) for upstream, keys in by_upstream.items())
        )
        answer = joined.answer(lambda: route.release.manifest.signature.width)
        whole = refused(answer.problems, len(call.keys))
        if isinstance(whole, AwayError | ReleaseNotReadyError | WorkersUnreachableError | DeadlineError):
            raise whole
        return answer

    def _first(self, route: Route, shard: int) -> Candidates:
        """A shard's candidates with the one to ask first in front."""
        candidates = route.candidates(shard)
        first = choose(candidates, (), asyncio.get_running_loop().time(), route.spread)
        return () if first is None else (first, *(one for one in candidates if one is not first))

    async def _score_part(
        self, route: Route, joined: Joined, call: ScoreCall, keys: Sequence[int], candidates: Candidates
    ) -> None:
        def made() -> tuple[Part, bytes]:
            part = part_of(call, keys)
            return part, call_frame(part.call, route.on_hold(part.call.keys, call.disabled))

        large = call.features.matrix.nbytes >= LARGE_BYTES
        part, frame = await self._run(large, made)
        asking = Asking(self._means, candidates, 1)
        try:
            answer = await asking.waiting(ALONE, frame)
        except Problem as problem:
            joined.refuse(part, problem)
            return
        joined.add(part, answer)
        keys = [keys[at] for at, problem in sorted(answer.problems.items()) if problem.code in ELSEWHERE]
        if keys:
            part, frame = await self._run(large, made)
            with suppress(Problem):  # what the first said of each key stands
                joined.add(part, await asking.waiting(ALONE, frame))

    async def _run(self, large: bool, work: Callable[[], T]) -> T:
        """Do work here, or in a thread if it is large."""
        return await asyncio.get_running_loop().run_in_executor(self._computing, work) if large else work()
