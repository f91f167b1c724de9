"""Loading models: from a segment's bytes to a native model in the cache, once however many ask.

Loads run in a few threads of their own, so the event loop never parses; whoever asks for a model that is being loaded
waits for that load. A model that failed is refused for a few seconds without trying again, or each request for it
would cost a load.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from registry.errors import Problem
from workers.cache import CachedModel, ModelCache
from workers.errors import ModelLoadError, ModelQuarantinedError, SegmentDamagedError
from workers.memory import limit_arenas
from workers.metrics import FAILED_LOADS, LOAD_SECONDS, LOADS
from workers.resolving import ModelIdentity, Resolved
from workers.runtimes.catalog import runtime
from workers.runtimes.runtime import Binding
from workers.sandbox.sandboxes import Sandboxes

T = TypeVar("T")

MOST_REFUSED: Final = 10_000


class Loader:
    """Fills a cache. Safe from any thread and any event loop; its threads live until `close`.

    Attributes:
        loads: loads begun since the start, failed ones included.
    """

    def __init__(
        self,
        cache: ModelCache,
        *,
        threads: int = 2,
        refuse_seconds: float = 5.0,
        deadline_seconds: float = 30.0,
        sandboxes: Sandboxes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`refuse_seconds` is how long a failed model is refused, `deadline_seconds` how long a caller waits.

        Models of the runtimes that `sandboxes` take are loaded there; they end with the loader.
        """
        limit_arenas()
        self.loads = 0
        self._cache = cache
        self._refuse_seconds = refuse_seconds
        self._deadline_seconds = deadline_seconds
        self._sandboxes = sandboxes
        self._clock = clock
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="load")
        self._lock = threading.Lock()
        self._under_way: dict[ModelIdentity, Future[CachedModel]] = {}
        self._refused: dict[ModelIdentity, tuple[float, Problem]] = {}

    def begin(self, resolved: Resolved) -> "Future[CachedModel]":
        """The load of this model: the one under way, or a new one.

        The future raises ModelLoadError if the artifact cannot be loaded, now or a few seconds ago, and
        SegmentDamagedError if its bytes are not those that were registered.
        """
        with self._lock:
            under_way = self._under_way.get(resolved.identity)
            if under_way is not None:
                return under_way
            settled = self._settled(resolved.identity)
            if settled is not None:
                return settled
            self.loads += 1
            begun = self._threads.submit(self._load, resolved)
            self._under_way[resolved.identity] = begun
        begun.add_done_callback(lambda load: self._end(resolved.identity, load))
        return begun

    async def load(self, resolved: Resolved) -> CachedModel:
        """The loaded model, waited for until the deadline. A caller that gives up does not end the load for others.

        Raises:
            ModelLoadError, SegmentDamagedError: as `begin` says, and when the deadline passes.
        """
        begun = self.begin(resolved)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await asyncio.shield(asyncio.wrap_future(begun))
        except TimeoutError as error:
            raise ModelLoadError(
                f"{resolved.use.key!r} version {resolved.use.version} was not loaded in {self._deadline_seconds:g} s"
            ) from error

    async def run(self, work: Callable[[], T]) -> T:
        """Do other work that waits for the disk in the loading threads, until the deadline.

        Raises:
            ModelLoadError: when the deadline passes; and what the work raises.
        """
        begun = self._threads.submit(work)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await asyncio.wrap_future(begun)
        except TimeoutError as error:
            raise ModelLoadError(f"a model was not read in {self._deadline_seconds:g} s") from error

    def close(self) -> None:
        """Drop loads that have not begun and wait for those that have; no sandboxed model answers any more."""
        if self._sandboxes is not None:
            self._sandboxes.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _load(self, resolved: Resolved) -> CachedModel:
        began = time.perf_counter()
        try:
            model = self._loaded(resolved)
        except Exception as error:
            FAILED_LOADS.inc()
            raise _refusal_of(resolved, error) from error
        self._cache.put(resolved.identity, model, resolved.heap)
        LOADS.inc()
        LOAD_SECONDS.observe(time.perf_counter() - began)
        return model

    def _loaded(self, resolved: Resolved) -> CachedModel:
        entry = resolved.segment.entry(resolved.row)
        data = resolved.segment.read(resolved.row)
        if self._sandboxes is not None and self._sandboxes.takes(entry.runtime):
            return self._sandboxes.load(resolved, entry.runtime, data)
        return runtime(entry.runtime).load(data, Binding(resolved.signature, entry.classes))

    def _end(self, identity: ModelIdentity, load: "Future[CachedModel]") -> None:
        with self._lock:
            self._under_way.pop(identity, None)
            error = None if load.cancelled() else load.exception()
            if isinstance(error, Problem):
                if len(self._refused) >= MOST_REFUSED:
                    self._refused.clear()
                self._refused[identity] = (self._clock() + self._refuse_seconds, error)

    def _settled(self, identity: ModelIdentity) -> "Future[CachedModel] | None":
        """An answer that needs no load: a load may have ended since the caller looked, or failed a moment ago."""
        settled: Future[CachedModel] = Future()
        model = self._cache.peek(identity)
        if model is not None:
            settled.set_result(model)
            return settled
        until, problem = self._refused.get(identity, (0.0, None))
        if problem is None:
            return None
        if self._clock() >= until:
            del self._refused[identity]
            return None
        settled.set_exception(problem)
        return settled


def _refusal_of(resolved: Resolved, error: Exception) -> Problem:
    """What callers hear of a failed load. What a segment says of its damage stands, as does quarantine."""
    if isinstance(error, (SegmentDamagedError, ModelQuarantinedError)):
        return type(error)(error.detail)
    said = error.detail if isinstance(error, Problem) else f"{type(error).__name__}: {error}"
    return ModelLoadError(f"{resolved.use.key!r} version {resolved.use.version} cannot be loaded: {said}"[:500])
