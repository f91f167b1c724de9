"""The worker in this process: a gateway's calls answered by models that live beside it.

Small work whose models are warm runs where it is asked for, on the event loop, because handing it to a thread costs
more than the work. Models that must be loaded are awaited; large calls are scored in threads.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from registry.errors import Problem
from workers.cache import ModelCache
from workers.client import ModelUse, ScoreAnswer, ScoreCall
from workers.errors import OverloadedError, ReleaseNotReadyError, prediction_failure
from workers.features import Features, Matrix
from workers.holdings import Holdings
from workers.loading import Loader
from workers.mappings import Mappings, Pin
from workers.resolving import HeldRelease, Resolved
from workers.runtimes.runtime import LoadedModel
from workers.runtimes.sheet import Sheet
from workers.sandbox.asking import ask, fill, outcomes_of, turns_of
from workers.sandbox.sandbox import SandboxedModel
from workers.scoring import Bulk, Rows, rows_by_key, score_models
from workers.shedding import Gate

if TYPE_CHECKING:
    from workers.packed import PackedModels

T = TypeVar("T")

INLINE_ROWS: Final = 2000
INLINE_BYTES: Final = INLINE_ROWS * 20 * 1024  # of packs walked on the event loop, so many milliseconds at most
LOADS_AT_ONCE: Final = 64

_NO_PROBLEMS: Final[Mapping[int, Problem]] = MappingProxyType({})


class LocalWorker:
    """A `WorkerClient` over the holdings of this process. Used from one event loop; its threads live until `close`."""

    def __init__(
        self,
        holdings: Holdings,
        cache: ModelCache,
        loader: Loader,
        mappings: Mappings,
        *,
        score_threads: int = 2,
        queue_seconds: float,
    ) -> None:
        """Large calls run in `score_threads`; at most `queue_seconds` of work lie before a predict that is one."""
        self._holdings = holdings
        self._cache = cache
        self._loader = loader
        self._mappings = mappings
        self._ranges = score_threads
        self._threads = ThreadPoolExecutor(score_threads, thread_name_prefix="score")
        self._tasks: set[asyncio.Task[ScoreAnswer]] = set()
        self._large = 0  # works that wait for a thread or are in one
        self._gate = Gate(queue_seconds)

    @cached_property
    def _packed(self) -> "PackedModels":
        from workers.packed import PackedModels  # noqa: PLC0415 - numba, which only a fleet of packs needs

        return PackedModels(self._mappings, threads=self._ranges)

    def score_now(self, call: ScoreCall) -> ScoreAnswer | None:
        """See `WorkerClient.score_now`: here it is few rows of one key whose model is warm."""
        if call.key_rows is not None:
            return None
        held = self._held(call.group, call.release)
        if _is_large(held, call):
            return None
        try:
            resolved = held.resolve(call.keys[0], call.max_level, call.disabled)
            if resolved.pack < 0:
                model = self._cache.get_now(resolved.identity)
                if model is None or isinstance(model, SandboxedModel):
                    return None
                scores = model.predict(call.features)
            else:
                packed = self._packed
                _pin = packed.pin
                address = packed.address(resolved)
                if not address:
                    return None
                scores = packed.score(resolved, address, call.features)
        except ReleaseNotReadyError:
            raise
        except Exception as error:  # noqa: BLE001 - a model that breaks is a failed prediction, not a broken server
            return _refused(held, call, error)
        return ScoreAnswer(scores, (resolved.use,), _NO_PROBLEMS)

    def begin(self, call: ScoreCall) -> "asyncio.Future[ScoreAnswer] | None":
        """See `WorkerClient.begin`: few rows or many of one key, whose model is cold, in a sandbox, or too large."""
        if call.key_rows is not None:
            return None
        task = asyncio.get_running_loop().create_task(self.score(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def score(self, call: ScoreCall) -> ScoreAnswer:
        """See `WorkerClient.score`."""
        held = self._held(call.group, call.release)
        if call.key_rows is None:
            return await self._score_one(held, call)
        return await self._score_many(held, call)

    async def resolve(
        self, group: str, release: int, key: tuple[str, ...], max_level: int, disabled: frozenset[bytes]
    ) -> ModelUse:
        """See `WorkerClient.resolve`."""
        return self._held(group, release).resolve(key, max_level, disabled).use

    def close(self) -> None:
        """End the threads; calls under way finish first."""
        self._threads.shutdown(wait=True)
        self._loader.close()
        if "_packed" in vars(self):
            self._packed.close()

    def _held(self, group: str, release: int) -> HeldRelease:
        held = self._holdings.get(group, release)
        if held is None:
            raise ReleaseNotReadyError(f"release {release} of {group!r} is not held here")
        return held

    async def _score_one(self, held: HeldRelease, call: ScoreCall) -> ScoreAnswer:
        """One key, its model cold or its rows many: no sheet and no grouping."""
        large = _is_large(held, call)
        if large and not self._gate.admits(time.monotonic(), self._large):
            raise OverloadedError("too many large calls wait for this process; try again in a moment")
        try:
            resolved = held.resolve(call.keys[0], call.max_level, call.disabled)
            scores = await self._scores(resolved, call.features, large=large)
        except ReleaseNotReadyError:
            raise
        except Exception as error:  # noqa: BLE001 - a model that breaks is a failed prediction, not a broken server
            return _refused(held, call, error)
        return ScoreAnswer(scores, (resolved.use,), _NO_PROBLEMS)

    async def _scores(self, resolved: Resolved, features: Features, *, large: bool) -> Matrix:
        """What the model of a resolved key answers, waited for."""
        if resolved.pack >= 0:
            pin = self._packed.pin
            address = self._packed.address(resolved) or await self._loader.run(partial(self._packed.bring, resolved))
            return await self._run(partial(self._score_pinned, pin, resolved, address, features), large=large)
        model = self._cache.get(resolved.identity) or await self._loader.load(resolved)
        if isinstance(model, SandboxedModel):
            return await ask(model, resolved, features)
        return await self._run(partial(model.predict, features), large=large)

    def _score_pinned(self, _pin: Pin, resolved: Resolved, address: int, features: Features) -> Matrix:
        return self._packed.score(resolved, address, features)

    async def _score_many(self, held: HeldRelease, call: ScoreCall) -> ScoreAnswer:
        sheet = Sheet(call.features, held.signature.width)
        pin = self._mappings.pin
        large = _is_large(held, call)
        bulk = await self._run(partial(self._resolved, pin, held, call), large=large)
        if bulk.distant:
            await self._bring(bulk)
        await self._run(partial(self._score_warm, pin, sheet, bulk, call), large=large)
        del pin  # what was unmapped meanwhile need not wait for models to be loaded
        if bulk.sandboxed:
            await self._score_sandboxed(sheet, bulk, bulk.sandboxed, call, large=large)
        for chunk in self._chunks(bulk.cold, bulk.found):
            await self._score_cold(sheet, bulk, chunk, call, large=large)
        return ScoreAnswer(sheet.scores, bulk.uses(), bulk.problems)

    # Work in a thread goes on when its caller has given up, so it holds the pin itself.

    def _resolved(self, _pin: Pin, held: HeldRelease, call: ScoreCall) -> Bulk:
        return Bulk(held, call, self._cache, self._address, self._mappings.count)

    def _address(self, resolved: Resolved) -> int:
        return self._packed.address(resolved)

    async def _bring(self, bulk: Bulk) -> None:
        """Have packs read from the disk, each once, in the order they lie in, as many at once as loads."""
        wanted: dict[tuple[int, int], list[int]] = {}
        for position in bulk.distant:
            resolved = _found(bulk, position)
            wanted.setdefault((id(resolved.packs), resolved.row), []).append(position)
        ordered = [wanted[place] for place in sorted(wanted)]
        for start in range(0, len(ordered), LOADS_AT_ONCE):
            places = ordered[start : start + LOADS_AT_ONCE]
            brought = [
                self._loader.run(partial(self._packed.bring, _found(bulk, positions[0]))) for positions in places
            ]
            for positions, outcome in zip(places, await _outcomes(brought), strict=True):
                for position in positions:
                    if isinstance(outcome, Problem):
                        bulk.problems[position] = outcome
                    else:
                        bulk.addresses[position] = outcome

    def _score_warm(self, _pin: Pin, sheet: Sheet, bulk: Bulk, call: ScoreCall) -> None:
        if any(bulk.addresses) and call.key_rows is not None:
            coded = bulk.found if bulk.coded else ()
            self._packed.score_sheet(sheet, bulk.addresses, call.key_rows, coded, bulk.problems)
        if bulk.warm:
            score_models(sheet, bulk.problems, bulk.warm, _rows(call))

    async def _score_cold(
        self, sheet: Sheet, bulk: Bulk, chunk: Sequence[int], call: ScoreCall, *, large: bool
    ) -> None:
        loads = [self._loader.load(_found(bulk, position)) for position in chunk]
        ready: list[tuple[int, LoadedModel]] = []
        sandboxed: list[tuple[int, SandboxedModel]] = []
        for position, outcome in zip(chunk, await _outcomes(loads), strict=True):
            if isinstance(outcome, Problem):
                bulk.problems[position] = outcome
            elif isinstance(outcome, SandboxedModel):
                sandboxed.append((position, outcome))
            else:
                ready.append((position, outcome))
        await self._run(partial(score_models, sheet, bulk.problems, ready, _rows(call)), large=large)
        await self._score_sandboxed(sheet, bulk, sandboxed, call, large=large)

    async def _score_sandboxed(
        self, sheet: Sheet, bulk: Bulk, models: Sequence[tuple[int, SandboxedModel]], call: ScoreCall, *, large: bool
    ) -> None:
        asked = [(position, model, _found(bulk, position)) for position, model in models]
        rows = _rows(call)
        outcomes = await outcomes_of(await self._run(partial(turns_of, sheet, asked, rows), large=large))
        await self._run(partial(fill, sheet, bulk.problems, outcomes, rows), large=large)

    def _chunks(self, cold: Sequence[int], found: Sequence[Resolved | None]) -> Iterator[list[int]]:
        """Cold keys, so many at a time that their models together stay within a quarter of their budget.

        The models of a chunk are held from load to prediction, whether or not the cache keeps them.
        """
        chunk: list[int] = []
        held = 0
        for position in cold:
            resolved = found[position]
            heap = resolved.heap if resolved is not None else 0
            if chunk and (len(chunk) >= LOADS_AT_ONCE or held + heap > self._cache.budget_of(heap) // 4):
                yield chunk
                chunk, held = [], 0
            chunk.append(position)
            held += heap
        if chunk:
            yield chunk

    async def _run(self, work: Callable[[], T], *, large: bool) -> T:
        """Do work here, or in a thread if it is large."""
        if not large:
            return work()
        self._large += 1
        try:
            done, seconds = await asyncio.get_running_loop().run_in_executor(self._threads, _timed, work)
        finally:
            self._large -= 1
        self._gate.answered(time.monotonic(), seconds, min(self._ranges, self._large + 1), behind=self._large)
        return done


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What work comes to, and the seconds it took."""
    began = time.monotonic()
    return work(), time.monotonic() - began


def _is_large(held: HeldRelease, call: ScoreCall) -> bool:
    """Whether a call is too much work for the event loop, should its packs be as large as they come."""
    rows = len(call.features)
    return rows > INLINE_ROWS or rows * held.largest_pack > INLINE_BYTES


async def _outcomes(begun: Sequence[Awaitable[T]]) -> list[T | Problem]:
    """What becomes of each, a refusal being an outcome as well; raises what is none."""
    outcomes = await asyncio.gather(*begun, return_exceptions=True)
    found: list[T | Problem] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, Problem):
            raise outcome
        found.append(outcome)
    return found


def _found(bulk: Bulk, position: int) -> Resolved:
    resolved = bulk.found[position]
    assert resolved is not None, "what is distant or cold was found"
    return resolved


def _rows(call: ScoreCall) -> list[Rows]:
    return rows_by_key(call.key_rows, len(call.keys), len(call.features))


def _refused(held: HeldRelease, call: ScoreCall, error: Exception) -> ScoreAnswer:
    nothing: Matrix = np.full((len(call.features), held.signature.width), np.nan)
    return ScoreAnswer(nothing, (None,), {0: prediction_failure(error)})
