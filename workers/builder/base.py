"""The segments of the release that a build starts from: checked before anything is carried, made anew if damaged.

A release is determined by the versions that its chain of bases introduced, and writing is deterministic. So a segment
that was lost or damaged can be written again from the bundles, and its digest proves that it is the same.
"""

from registry.artifacts.bundle import BundleReader
from registry.artifacts.store import ArtifactStore
from registry.database import Database
from registry.errors import ArtifactDamagedError, ArtifactMissingError
from registry.keys import SLOTS
from registry.manifest import FALLBACK_SHARD, Manifest, SegmentRef
from registry.records import Group
from registry.releases import base_chain, changes
from workers.builder.contents import Contents
from workers.builder.opened import OpenedSegments
from workers.builder.sharding import shards_over, slots_of
from workers.errors import SegmentDamagedError
from workers.segments.reader import Segment
from workers.segments.writer import write_segment


class BaseSegments:
    """Opens the base's segments as a build comes by. For one thread; holds open what the last call asked for.

    Attributes:
        repaired: how many segments had to be written anew.
    """

    def __init__(
        self, db: Database, store: ArtifactStore, group: Group, manifest: Manifest | None, opened: OpenedSegments
    ) -> None:
        self._kept = opened
        self._db = db
        self._store = store
        self._group = group
        self._manifest = manifest
        self._refs = dict(manifest.by_shard) if manifest else {}
        self._open: dict[str, Segment] = {}
        self.repaired = 0

    def over(self, shard: int, low: int, high: int) -> list[Segment]:
        """The segments that hold the slots `low` to before `high`; the fallback segment for shard -1.

        Each one's full digest is checked before it is answered.

        Raises:
            ArtifactMissingError, ArtifactDamagedError, SegmentDamagedError: if one can neither be trusted nor be
                written anew.
        """
        shards = self._manifest.shards if self._manifest else 1
        wanted = (FALLBACK_SHARD,) if shard == FALLBACK_SHARD else shards_over(low, high, shards)
        refs = [self._refs[one] for one in wanted if one in self._refs]
        self._open = {ref.digest: self._open.get(ref.digest) or self._verified(ref) for ref in refs}
        return list(self._open.values())

    def opened(self, ref: SegmentRef) -> Segment:
        """A segment of the base or of the new release, its index checked. Raises as `over`."""
        try:
            return self._kept.open(self._store, self._group.name, ref.digest)
        except (ArtifactMissingError, ArtifactDamagedError, SegmentDamagedError) as problem:
            if ref != self._refs.get(ref.shard):
                raise
            self._restore(ref, problem)
            return self._kept.open(self._store, self._group.name, ref.digest)

    def _verified(self, ref: SegmentRef) -> Segment:
        try:
            self._store.verify(ref.digest)
        except (ArtifactMissingError, ArtifactDamagedError) as problem:
            self._restore(ref, problem)
        return Segment.open(self._store.path(ref.digest), self._store)

    def _restore(self, ref: SegmentRef, problem: Exception) -> None:
        """Write a segment of the base from its bundles; raises the problem again if that gives other bytes."""
        assert self._manifest is not None
        shards = self._manifest.shards
        with BundleReader(self._store) as bundles, self._db.read() as conn:
            contents = Contents(bundles, self._group.schema)
            chain = base_chain(conn, self._group, self._manifest.release)
            for release in sorted(chain, key=lambda one: one.number):
                for change in changes(conn, self._group, release.number, *changed_range(ref.shard, shards)):
                    contents.change(change)
            shape = {"shard": ref.shard, "shards": segment_shards(ref.shard, shards)}
            written = self._store.put(write_segment(contents.models(), group=self._group.name, **shape))
        if written.digest != ref.digest:
            raise problem
        self.repaired += 1


def carried_slots(shard: int, shards: int) -> tuple[int, int]:
    """Which of the base's slots a segment carries: those of its shard; for the fallback segment all."""
    return (0, SLOTS) if shard == FALLBACK_SHARD else slots_of(shard, shards)


def changed_range(shard: int, shards: int) -> tuple[int, int]:
    """The slots, to before the second, whose changes a segment takes in; partial keys have slot -1."""
    return (FALLBACK_SHARD, 0) if shard == FALLBACK_SHARD else slots_of(shard, shards)


def segment_shards(shard: int, shards: int) -> int:
    """The count of shards a segment's header names: the fallback segment is never cut, so it outlives a new count."""
    return 1 if shard == FALLBACK_SHARD else shards
