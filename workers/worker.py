"""The worker in this process: a gateway's calls answered by models that live beside it.

Small work whose models are warm runs where it is asked for, on the event loop, because handing it to a thread costs
more than the work. Models that must be loaded are awaited; large calls are scored in threads.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import Final, TypeVar

import numpy as np

from registry.errors import Problem
from workers.cache import ModelCache
from workers.client import ModelUse, ScoreAnswer, ScoreCall
from workers.errors import ReleaseNotReadyError, prediction_failure
from workers.features import Matrix
from workers.holdings import Holdings
from workers.loading import Loader
from workers.resolving import HeldRelease, Resolved
from workers.runtimes.runtime import LoadedModel
from workers.runtimes.sheet import Sheet
from workers.scoring import Resolution, Rows, rows_by_key, score_models, score_warm

T = TypeVar("T")

INLINE_ROWS: Final = 2000
LOADS_AT_ONCE: Final = 64

_NO_PROBLEMS: Final[Mapping[int, Problem]] = MappingProxyType({})


class LocalWorker:
    """A `WorkerClient` over the holdings of this process. Used from one event loop; its threads live until `close`."""

    def __init__(self, holdings: Holdings, cache: ModelCache, loader: Loader, *, score_threads: int = 2) -> None:
        self._holdings = holdings
        self._cache = cache
        self._loader = loader
        self._threads = ThreadPoolExecutor(score_threads, thread_name_prefix="score")

    def score_now(self, call: ScoreCall) -> ScoreAnswer | None:
        """See `WorkerClient.score_now`: here it is few rows of one key whose model is warm."""
        if call.key_rows is not None or len(call.features) > INLINE_ROWS:
            return None
        held = self._held(call.group, call.release)
        try:
            resolved = held.resolve(call.keys[0], call.max_level, call.disabled)
            model = self._cache.get_now(resolved.identity)
            if model is None:
                return None
            scores = model.predict(call.features)
        except Exception as error:  # noqa: BLE001 - a model that breaks is a failed prediction, not a broken server
            return _refused(held, call, error)
        return ScoreAnswer(scores, (resolved.use,), _NO_PROBLEMS)

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

    def _held(self, group: str, release: int) -> HeldRelease:
        held = self._holdings.get(group, release)
        if held is None:
            raise ReleaseNotReadyError(f"release {release} of {group!r} is not held here")
        return held

    async def _score_one(self, held: HeldRelease, call: ScoreCall) -> ScoreAnswer:
        """One key, its model cold or its rows many: no sheet and no grouping."""
        try:
            resolved = held.resolve(call.keys[0], call.max_level, call.disabled)
            model = self._cache.get(resolved.identity)
            if model is None:
                model = await self._loader.load(resolved)
            if len(call.features) <= INLINE_ROWS:
                scores = model.predict(call.features)
            else:
                scores = await self._in_thread(partial(model.predict, call.features))
        except Exception as error:  # noqa: BLE001 - a model that breaks is a failed prediction, not a broken server
            return _refused(held, call, error)
        return ScoreAnswer(scores, (resolved.use,), _NO_PROBLEMS)

    async def _score_many(self, held: HeldRelease, call: ScoreCall) -> ScoreAnswer:
        sheet = Sheet(call.features, held.signature.width)
        large = len(call.features) > INLINE_ROWS
        warm = partial(_score_warm, sheet, held, call, self._cache)
        resolution, rows, cold = await self._in_thread(warm) if large else warm()
        for chunk in self._chunks(cold, resolution.found):
            await self._score_cold(sheet, resolution, chunk, rows, large=large)
        models = [
            resolved.use if resolved is not None and position not in resolution.problems else None
            for position, resolved in enumerate(resolution.found)
        ]
        return ScoreAnswer(sheet.scores, models, resolution.problems)

    async def _score_cold(
        self, sheet: Sheet, resolution: Resolution, chunk: Sequence[int], rows: Sequence[Rows], *, large: bool
    ) -> None:
        places = [resolved for position in chunk if (resolved := resolution.found[position]) is not None]
        loaded = await asyncio.gather(*map(self._loader.load, places), return_exceptions=True)
        ready: list[tuple[int, LoadedModel]] = []
        for position, outcome in zip(chunk, loaded, strict=True):
            if isinstance(outcome, Problem):
                resolution.problems[position] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                ready.append((position, outcome))
        score = partial(score_models, sheet, resolution.problems, ready, rows)
        if large:
            await self._in_thread(score)
        else:
            score()

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

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _score_warm(
    sheet: Sheet, held: HeldRelease, call: ScoreCall, cache: ModelCache
) -> tuple[Resolution, list[Rows], list[int]]:
    resolution = Resolution(held, call)
    rows = rows_by_key(call.key_rows, len(call.keys), len(call.features))
    return resolution, rows, score_warm(sheet, resolution, rows, cache)


def _refused(held: HeldRelease, call: ScoreCall, error: Exception) -> ScoreAnswer:
    nothing: Matrix = np.full((len(call.features), held.signature.width), np.nan)
    return ScoreAnswer(nothing, (None,), {0: prediction_failure(error)})
