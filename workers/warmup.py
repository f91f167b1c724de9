"""Warm-up: the small models of what is live are loaded in the background, until the budget is full.

Without it the first request for each partition after a start would wait for a load. It never makes room: what
requests have loaded stays, and a fleet beyond the budget is warmed as far as it goes. Large models wait for their
first request.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Final

from registry.errors import Problem
from registry.manifest import FALLBACK_SHARD
from workers.cache import ModelCache
from workers.holdings import Holdings
from workers.loading import Loader
from workers.resolving import HeldRelease, Resolved

AHEAD: Final = 4  # loads asked for at once: enough to keep the threads busy, few enough for a request to cut in

_log: Final = logging.getLogger(__name__)


class WarmUp:
    """One thread that warms each release once, soon after it is held, and again when more of it is.

    Lives from `start` to `stop`.
    """

    def __init__(self, holdings: Holdings, cache: ModelCache, loader: Loader, *, interval: float = 1.0) -> None:
        """`interval` is seconds between two looks for releases that are newly held."""
        self._holdings = holdings
        self._cache = cache
        self._loader = loader
        self._interval = interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warm-up", daemon=True)
        self._warmed: set[tuple[str, frozenset[int]]] = set()  # manifests, and which shards were held

    def start(self) -> None:
        """Begin in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for no more loads and wait for those under way. Stopping twice, or unstarted, is fine."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def warm(self) -> int:
        """Load what fits of every release not warmed yet; answers how many models were asked for."""
        asked = 0
        under_way: deque[tuple[int, Future[Any]]] = deque()
        for resolved in self._wanted():
            while under_way and (len(under_way) >= AHEAD or not self._fits(resolved, under_way)):
                _settle(under_way.popleft()[1])
            if self._stopping.is_set() or not self._fits(resolved, under_way):
                break
            under_way.append((resolved.heap, self._loader.begin(resolved)))
            asked += 1
        for _, load in under_way:
            _settle(load)
        return asked

    def _fits(self, resolved: Resolved, under_way: Iterable[tuple[int, "Future[Any]"]]) -> bool:
        return resolved.heap + sum(heap for heap, _ in under_way) <= self._cache.room()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.warm()
            except Exception:  # noqa: BLE001 - warming is a favour: whatever stops it once must not stop it for good
                _log.exception("warm-up stopped early")
            self._stopping.wait(self._interval)

    def _wanted(self) -> Iterator[Resolved]:
        """Small models that are not loaded yet, release by release, fallback models first: many keys meet them."""
        for held in self._holdings.releases():
            place = (held.manifest_digest, frozenset(held.segments))
            if place in self._warmed:
                continue
            self._warmed.add(place)
            for resolved in _models(held):
                if not self._cache.is_large(resolved.heap) and self._cache.peek(resolved.identity) is None:
                    yield resolved


def _models(held: HeldRelease) -> Iterator[Resolved]:
    for shard, segment in sorted(held.segments.items()):
        for row in segment.native_rows:  # a pack is scored where it lies
            try:
                yield held.entry_resolved(segment, row, 1 if shard == FALLBACK_SHARD else 0)
            except Problem as problem:
                _log.warning("a model of %r is not warmed: %s", held.group, problem.detail)


def _settle(load: "Future[Any]") -> None:
    """Wait for a load. One that fails is logged here and refused to whoever asks for it."""
    try:
        load.result()
    except Problem as problem:
        _log.warning("%s", problem.detail)
