"""The cache of loaded native models, bounded by the heap bytes that were measured when they were proved.

It is a segmented LRU: a model enters on probation and is protected once it is asked for again, so that one pass over
a cold fleet runs through the probation and leaves the hot set alone. Large models have a budget of their own, or one
of them would empty the cache of thousands.
"""

import math
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple

from cachetools import LRUCache

from workers.metrics import CACHE_BYTES, CACHE_EVICTIONS, CACHE_HITS, CACHE_MISSES, CACHE_MODELS
from workers.runtimes.runtime import LoadedModel
from workers.sandbox.sandbox import SandboxedModel

CachedModel = LoadedModel | SandboxedModel

PROTECTED_SHARE: Final = 0.8


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts since the start, and what is cached now. `budget_bytes` is of the small models."""

    bytes: int
    budget_bytes: int
    models: int
    hits: int
    misses: int
    evictions: int
    large_bytes: int
    large_budget_bytes: int
    large_models: int


class _Item(NamedTuple):
    model: CachedModel
    size: int


def _ordered() -> "LRUCache[Hashable, _Item]":
    """An LRU that knows its bytes and never evicts by itself: how much may stay is decided across several of them."""
    return LRUCache(maxsize=math.inf, getsizeof=lambda item: item.size)


class ModelCache:
    """Owns loaded models until they are evicted; whoever got one keeps it alive meanwhile. Safe from any thread.

    A hit takes no lock and does no bookkeeping but a note that the model was used; the notes become recency when the
    next model is put, which is the only time recency matters.
    """

    def __init__(self, budget_bytes: int, *, large_budget_bytes: int, large_model_bytes: int) -> None:
        """Budgets are heap bytes; a model of more than `large_model_bytes` counts as large."""
        self._budget = budget_bytes
        self._large_budget = large_budget_bytes
        self._large_from = large_model_bytes
        self._models: dict[Hashable, CachedModel] = {}
        self._used: dict[Hashable, None] = {}
        self._probation = _ordered()
        self._protected = _ordered()
        self._large = _ordered()
        self._lock = threading.Lock()
        self._hits = self._misses = self._evictions = 0
        self._reported = (0, 0, 0)

    def get(self, identity: Hashable) -> CachedModel | None:
        """The model of this identity, or None."""
        model = self.get_now(identity)
        if model is None:
            self._misses += 1
        return model

    def get_now(self, identity: Hashable) -> CachedModel | None:
        """As `get`, for a caller that asks again if it must: only what is found is counted."""
        model = self._models.get(identity)
        if model is None:
            return None
        self._hits += 1
        self._used[identity] = None
        return model

    def peek(self, identity: Hashable) -> CachedModel | None:
        """As `get`, but neither counted nor noted as a use."""
        return self._models.get(identity)

    def put(self, identity: Hashable, model: CachedModel, size: int) -> None:
        """Take in a loaded model of `size` heap bytes; others go to make room.

        A model over its whole budget is not taken in: it serves those who hold it and is freed after them.
        """
        large = size > self._large_from
        if size > (self._large_budget if large else self._budget):
            return
        gone: list[_Item] = []  # freed after the lock is left: giving back native memory takes its time
        with self._lock:
            self._apply_notes()
            gone.extend(self._forget(identity))
            (self._large if large else self._probation)[identity] = _Item(model, size)
            self._models[identity] = model
            gone.extend(self._make_room())
            self._report()
        del gone

    def room(self) -> int:
        """Heap bytes of small models that fit without an eviction."""
        with self._lock:
            return int(self._budget - self._probation.currsize - self._protected.currsize)

    def is_large(self, size: int) -> bool:
        """Whether a model of `size` heap bytes counts as large."""
        return size > self._large_from

    def budget_of(self, size: int) -> int:
        """The budget, in heap bytes, that a model of `size` heap bytes falls under."""
        return self._large_budget if size > self._large_from else self._budget

    def stats(self) -> CacheStats:
        """Counts since the start, and what is cached now."""
        with self._lock:
            self._report()
            return CacheStats(
                bytes=int(self._probation.currsize + self._protected.currsize),
                budget_bytes=self._budget,
                models=len(self._models),
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                large_bytes=int(self._large.currsize),
                large_budget_bytes=self._large_budget,
                large_models=len(self._large),
            )

    def _apply_notes(self) -> None:
        """Make the models used since the last time the most recent ones, and protect those that were on probation."""
        notes, self._used = self._used, {}
        for identity in list(notes):
            for order in (self._protected, self._large):
                if identity in order:
                    order[identity]  # looking up is what makes it recent
            item = self._probation.pop(identity, None)
            if item is not None:
                self._protected[identity] = item
        while self._protected.currsize > PROTECTED_SHARE * self._budget:
            demoted, item = self._protected.popitem()
            self._probation[demoted] = item

    def _make_room(self) -> list[_Item]:
        gone = []
        while self._probation.currsize + self._protected.currsize > self._budget:
            # The newest on probation is the one that needs the room: when it is alone there, a protected one goes.
            gone.append(self._evict(self._probation if len(self._probation) > 1 else self._protected))
        while self._large.currsize > self._large_budget:
            gone.append(self._evict(self._large))
        return gone

    def _evict(self, order: "LRUCache[Hashable, _Item]") -> _Item:
        identity, item = order.popitem()
        del self._models[identity]
        self._evictions += 1
        return item

    def _forget(self, identity: Hashable) -> list[_Item]:
        """A model that is put again replaces the former one."""
        return [order.pop(identity) for order in (self._probation, self._protected, self._large) if identity in order]

    def _report(self) -> None:
        """Hand what was counted since the last time to the metrics."""
        counts = (self._hits, self._misses, self._evictions)
        for counter, now, before in zip(
            (CACHE_HITS, CACHE_MISSES, CACHE_EVICTIONS), counts, self._reported, strict=True
        ):
            counter.inc(now - before)
        self._reported = counts
        CACHE_BYTES.set(self._probation.currsize + self._protected.currsize + self._large.currsize)
        CACHE_MODELS.set(len(self._models))
