"""What this worker holds: the releases whose segments are mapped here, and the way from a key to a model in one.

The watcher's thread adopts each new snapshot before it is shown: the segments of every wanted release, or of this
worker's share of it, are opened first, shared by digest with the releases already held. A release nobody wants any more
stays for a while, because requests that fixed the former snapshot are still under way. A release of which a segment is
damaged is never ready to go live; where it is live already its other shards answer. When an assignment changes the
share, the held release is replaced by one that shares the segments both hold.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import orjson

from discovery.snapshot import GroupView, LiveRelease, Snapshot
from registry.artifacts.store import ArtifactStore
from registry.errors import AwayError, Problem
from registry.manifest import SegmentRef
from registry.signature import Signature
from workers.errors import SegmentDamagedError
from workers.fetching import fetched
from workers.metrics import HELD_RELEASES
from workers.resolving import HeldRelease
from workers.runtimes.catalog import runtime
from workers.segments.reader import Segment
from workers.shares import Shares

Shape = tuple[int, int, int]  # of a signature

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adoption:
    """What came of mapping a snapshot's releases.

    Attributes:
        ready: (group, release) of which this worker's whole share is held.
        failed: what went wrong with others.
    """

    ready: tuple[tuple[str, int], ...]
    failed: tuple[tuple[str, int, Problem], ...]


class Holdings:
    """Owns the held releases. `adopt` is called by one thread at a time; `get` from any thread, without a lock."""

    def __init__(
        self,
        store: ArtifactStore,
        *,
        keep_seconds: float = 60.0,
        seat: str | None = None,
        fetch_threads: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is held yet.

        Args:
            store: where segments come from.
            keep_seconds: how long a release, or a shard of one, stays after nobody wants it here.
            seat: whose shards are held; None for a worker that holds everything.
            fetch_threads: segments brought to this disk at once.
            clock: tells monotonic seconds.
        """
        self._store = store
        self._shares = Shares(seat, keep_seconds)
        self._fetch_threads = fetch_threads
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._held: dict[tuple[str, int], HeldRelease] = {}
        self._unwanted: dict[tuple[str, int], float] = {}
        # A pack is checked against one signature's shape, so a segment is shared only among releases of one shape.
        self._segments: WeakValueDictionary[tuple[str, Shape], Segment] = WeakValueDictionary()
        self._signatures: dict[bytes, int] = {}
        self._numbers = itertools.count(1)
        self._adopting = threading.Lock()

    def get(self, group: str, release: int) -> HeldRelease | None:
        """The release, if it is held; keys of a damaged segment are refused by it."""
        return self._held.get((group, release))

    def releases(self) -> tuple[HeldRelease, ...]:
        """Everything held now."""
        return tuple(self._held.values())

    def adopt(self, snapshot: Snapshot) -> Adoption:
        """Map what the snapshot wants and let go what has been unwanted for long. Never raises for one bad release."""
        with self._adopting:
            held, failed = self._map(snapshot)
            self._let_go(held)
            self._held = held
            HELD_RELEASES.set(len(held))
            wanted = {
                (view.name, release.number)
                for view, release in _wanted(snapshot)
                if self._shares.is_assigned(view, release)
            }
            ready = [place for place in sorted(wanted) if place in held and not held[place].damaged]
            return Adoption(tuple(ready), tuple(failed))

    def _map(self, snapshot: Snapshot) -> tuple[dict[tuple[str, int], HeldRelease], list[tuple[str, int, Problem]]]:
        held = dict(self._held)
        failed: list[tuple[str, int, Problem]] = []
        now = self._clock()
        missing = dict.fromkeys(held, now) | self._unwanted
        self._shares.begin()
        for view, release in _wanted(snapshot):
            place = (view.name, release.number)
            missing.pop(place, None)
            former = held.get(place)
            if former is not None and former.manifest_digest != release.manifest_digest:
                former = None
            own = self._shares.of(view, release, former.segments if former is not None else (), now)
            if former is None or former.damaged or own != former.segments.keys():
                held[place] = self._open(view, release, own, former)
                failed += [(*place, problem) for problem in held[place].damaged.values()]
        self._unwanted = missing
        return held, failed

    def _let_go(self, held: dict[tuple[str, int], HeldRelease]) -> None:
        now = self._clock()
        for place, since in list(self._unwanted.items()):
            if place not in held or now - since >= self._keep_seconds:
                held.pop(place, None)
                del self._unwanted[place]

    def _open(
        self, view: GroupView, release: LiveRelease, own: frozenset[int], former: HeldRelease | None
    ) -> HeldRelease:
        """The release with these shards; what is open already, as in `former`, is shared."""
        manifest = release.manifest
        shape = manifest.signature.shape
        refs = [ref for ref in manifest.segments if ref.shard in own]
        open_now = {ref.shard: self._segments.get((ref.digest, shape)) for ref in refs}
        segments = {shard: segment for shard, segment in open_now.items() if segment is not None}
        damaged: dict[int, Problem] = {}
        missing = [ref for ref in refs if ref.shard not in segments]
        for ref, file in fetched(self._store, missing, self._fetch_threads):
            try:
                segments[ref.shard] = self._segment(ref, view.name, shape, file)
            except Problem as problem:
                said = f"shard {ref.shard} of release {release.number}: {problem.detail}"
                damaged[ref.shard] = (
                    type(problem)(said) if isinstance(problem, AwayError) else SegmentDamagedError(said)
                )
                _log.warning("%s of %r", said, view.name)
        held = HeldRelease(
            group=view.name,
            release=release.number,
            manifest_digest=release.manifest_digest,
            schema=view.schema,
            signature=manifest.signature,
            signature_number=self._number_of(manifest.signature),
            shards=manifest.shards,
            segments={shard: segments[shard] for shard in sorted(segments)},
            damaged=damaged,
            elsewhere=frozenset(ref.shard for ref in manifest.segments if ref.shard not in own),
        )
        if former is not None:
            held.remember_as(former)
        return held

    def _segment(self, ref: SegmentRef, group: str, shape: Shape, file: "Future[Path]") -> Segment:
        """The segment, opened. Its runtimes' libraries are loaded with it.

        They take a second to import, which no request should wait for.
        """
        try:
            segment = Segment.open(file.result(), self._store)
        except OSError as error:
            raise SegmentDamagedError(f"the segment {ref.digest} of {group!r} cannot be opened: {error}") from error
        for name in segment.runtimes:
            runtime(name)
        if segment.packs.size:
            import_module("workers.packed")
        self._segments[ref.digest, shape] = segment
        return segment

    def _number_of(self, signature: Signature) -> int:
        """A small number for each distinct signature: models are cached per signature, and numbers hash quickly."""
        spelled = orjson.dumps(signature.to_json())
        if spelled not in self._signatures:
            self._signatures[spelled] = next(self._numbers)
        return self._signatures[spelled]


def _wanted(snapshot: Snapshot) -> Iterator[tuple[GroupView, LiveRelease]]:
    for view in snapshot.groups.values():
        releases = {release.number: release for release in view.wanted}
        releases |= {deployment.release.number: deployment.release for deployment in view.deployments.values()}
        for release in releases.values():
            yield view, release
