"""Which segments' packs are mapped in this process: as many as a budget of bytes allows, the least recently used go.

A mapping may be taken away while a kernel in another thread still reads it, so nothing is freed at once. Every call
holds the pin that was current when it began; what is unmapped is kept by the pin of that moment, and each pin keeps
the next one. So a mapping goes when the last call that began before it was unmapped has ended, without a lock or a
count on the way.
"""

import threading
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from workers.metrics import MAPPED_BYTES, MAPPINGS, UNMAPPINGS
from workers.segments.packs import PackFile


class Pin:
    """What a call holds for its length."""

    __slots__ = ("_kept", "_next")

    def __init__(self) -> None:
        self._next: Pin | None = None
        self._kept: tuple[Any, ...] = ()

    def followed(self, kept: tuple[Any, ...]) -> "Pin":
        """The next pin; this one keeps what was unmapped meanwhile."""
        self._next = Pin()
        self._kept = kept
        return self._next


class MappingStats(NamedTuple):
    """Bytes and count of what is mapped, and how often something was mapped and unmapped since the start."""

    bytes: int
    budget_bytes: int
    segments: int
    mapped: int
    unmapped: int


class Mappings:
    """Owns the mappings of packs. Safe from any thread.

    Attributes:
        pin: the current pin; take it before `PackFile.base` is read, and hold it while the address is used.
        count: grows with every mapping; what is asked for notes it as its time of use.
    """

    def __init__(self, budget_bytes: int) -> None:
        """One segment stays mapped however large it is."""
        self.pin = Pin()
        self.count = 0
        self._budget: Final = budget_bytes
        self._mapped: WeakSet[PackFile] = WeakSet()
        self._unmapped = 0
        self._lock = threading.Lock()

    def map(self, packs: PackFile) -> int:
        """The address of these packs, mapped now if they were not.

        Raises:
            SegmentDamagedError: if the file has been cut short.
            ModelLoadError: if this process can map no more.
        """
        with self._lock:
            if packs.base:
                return packs.base
            packs.map()
            self.count += 1
            packs.used = self.count
            self._mapped.add(packs)
            MAPPINGS.inc()
            self._make_room(packs)
            return packs.base

    def stats(self) -> MappingStats:
        """What is mapped now."""
        with self._lock:
            mapped = list(self._mapped)
            return MappingStats(
                sum(packs.size for packs in mapped), self._budget, len(mapped), self.count, self._unmapped
            )

    def _make_room(self, newest: PackFile) -> None:
        mapped = list(self._mapped)
        total = sum(packs.size for packs in mapped)
        gone = []
        if total > self._budget:
            for packs in sorted(mapped, key=lambda one: one.used):
                if total <= self._budget:
                    break
                if packs is not newest:
                    total -= packs.size
                    self._mapped.discard(packs)
                    gone.append(packs.unmap())
        MAPPED_BYTES.set(total)
        if gone:
            self._unmapped += len(gone)
            UNMAPPINGS.inc(len(gone))
            self.pin = self.pin.followed(tuple(gone))
