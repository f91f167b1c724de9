"""Building a release: only the shards whose inputs changed are written again, the others are named by digest.

A build reads what is to be done from SQL, writes segments one after another, then the manifest, and makes the release
ready in one transaction. Everything before that transaction is content-addressed, so a build that is repeated after a
crash arrives at the same manifest, and what a crash leaves behind nobody names.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from sqlalchemy import Connection

from registry.artifacts.bundle import BundleReader
from registry.artifacts.frames import verified
from registry.artifacts.store import ArtifactStore
from registry.database import Database
from registry.errors import ArtifactDamagedError, ArtifactMissingError
from registry.failpoints import failpoint
from registry.groups import get_group
from registry.keys import PartitionKey, shard_of
from registry.manifest import FALLBACK_SHARD, Manifest, SegmentRef, read_manifest
from registry.records import Group, Release
from registry.releases import changed_slots, changes, fail_release, finish_release, get_release
from registry.sizes import incoming_bytes
from workers.builder.base import BaseSegments, carried_slots, changed_range, segment_shards
from workers.builder.contents import Contents
from workers.builder.opened import OpenedSegments
from workers.builder.report import (
    NAMED,
    Counts,
    broken_gates,
    changed_shards,
    failure_json,
    report_json,
    stale_before,
)
from workers.builder.sharding import SizeEstimate, choose_shards
from workers.errors import SegmentDamagedError
from workers.segments.layout import LARGE_MODEL_BYTES
from workers.segments.reader import Segment
from workers.segments.writer import write_segment

FAILPOINTS: Final = (
    "release.begun",
    "release.segment.stored",
    "release.segments.stored",
    "release.manifest.stored",
    "release.finished",
)
STALE_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be built: the count of shards, and which of them (-1 is the fallback segment) are written again."""

    group: Group
    release: Release
    base: Manifest | None
    shards: int
    rewritten: frozenset[int]

    @property
    def untouched(self) -> tuple[SegmentRef, ...]:
        """Segments of the base that the release names as they are."""
        if self.base is None:
            return ()
        recut = self.base.shards != self.shards
        kept = (ref for ref in self.base.segments if not recut or ref.shard == FALLBACK_SHARD)
        return tuple(ref for ref in kept if ref.shard not in self.rewritten)

    def manifest(self, segments: Sequence[SegmentRef]) -> Manifest:
        """The manifest of the release with these segments."""
        return Manifest(
            group=self.group.name,
            release=self.release.number,
            shards=self.shards,
            key_fields=self.group.schema.fields,
            shard_by=self.group.schema.shard_by,
            signature=self.group.signature,
            segments=tuple(segments),
        )


def build_release(
    db: Database,
    store: ArtifactStore,
    group_name: str,
    number: int,
    *,
    clock: Callable[[], float] = time.time,
    stale_days: int = STALE_DAYS,
    opened: OpenedSegments | None = None,
) -> Release:
    """Build a release that is in state `building`; one in another state is answered as it is.

    A base whose segments are damaged makes the release `failed`; a gate that is not passed makes it `blocked`.
    `opened` holds the segments that the build before left open.

    Raises:
        GroupNotFoundError, ReleaseNotFoundError: if there is none.
        DatabaseBusyError: if SQL is away; the build may be repeated.
    """
    with db.read() as conn:
        group = get_group(conn, group_name)
        release = get_release(conn, group, number)
    if release.state != "building":
        return release
    failpoint("release.begun")
    try:
        plan = plan_release(db, store, group, release)
        with _Build(db, store, plan, opened or OpenedSegments()) as build:
            manifest, counts = build.run(stale_before(clock(), release.gates, stale_days))
        digest = store.put([manifest.to_bytes()]).digest
    except (ArtifactMissingError, ArtifactDamagedError, SegmentDamagedError) as problem:
        with db.write() as conn:
            return fail_release(conn, group, number, failure_json(problem), clock())
    failpoint("release.manifest.stored")
    with db.write() as conn:
        finished = _finish(conn, plan, manifest, digest, counts, build.failed, clock())
    failpoint("release.finished")
    return finished


def plan_release(db: Database, store: ArtifactStore, group: Group, release: Release) -> Plan:
    """Choose the count of shards and the segments to write.

    Raises:
        ArtifactMissingError, ArtifactDamagedError: if the base's manifest is gone or damaged.
    """
    with db.read() as conn:
        parent = None if release.base is None else get_release(conn, group, release.base)
        slots = changed_slots(conn, group, release.number)
        incoming = incoming_bytes(conn, group, release.number, largest=LARGE_MODEL_BYTES)
    base = None if parent is None else _manifest(store, parent)
    size = SizeEstimate.of(base.size if base else 0, incoming)
    shards = choose_shards(size, base.shards if base else None)
    touched = {FALLBACK_SHARD if slot < 0 else shard_of(slot, shards) for slot in slots}
    if base and base.shards != shards:  # every segment is cut anew, but for the fallback segment, which is never cut
        touched |= set(range(shards))
    return Plan(group, release, base, shards, frozenset(touched))


def _manifest(store: ArtifactStore, release: Release) -> Manifest:
    if release.manifest is None:
        raise ArtifactMissingError(f"the base, release {release.number}, has no manifest: it is {release.state}")
    return read_manifest(verified(store.path(release.manifest).read_bytes(), release.manifest))


class _Build:
    """One build at work, for one thread: the plan, and the base's segments as it comes by them."""

    def __init__(self, db: Database, store: ArtifactStore, plan: Plan, opened: OpenedSegments) -> None:
        self._opened = opened
        self._db = db
        self._store = store
        self._plan = plan
        self._base = BaseSegments(db, store, plan.group, plan.base, opened)
        self._bundles = BundleReader(store)
        self.failed: list[PartitionKey] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._bundles.close()

    def run(self, stale_limit: float) -> tuple[Manifest, Counts]:
        """Write what changed; answers the manifest and everything the report counts."""
        plan = self._plan
        refs = list(plan.untouched)
        counts = Counts(carried=sum(ref.models for ref in refs))
        for shard in sorted(plan.rewritten):
            contents = self._contents(shard)
            counts += contents.tally()
            self.failed += contents.failed
            if ref := self._write(shard, contents):
                refs.append(ref)
            failpoint("release.segment.stored")
        failpoint("release.segments.stored")
        refs.sort(key=lambda ref: ref.shard)
        for ref in refs:
            counts += _ages(self._base.opened(ref), stale_limit)
        self._opened.keep(plan.group.name, frozenset(ref.digest for ref in refs))
        return plan.manifest(refs), counts + Counts(repaired=self._base.repaired)

    def _contents(self, shard: int) -> Contents:
        plan = self._plan
        contents = Contents(self._bundles, plan.group.schema)
        low, high = carried_slots(shard, plan.shards)
        for segment in self._base.over(shard, low, high):
            contents.carry(segment, low, high)
        with self._db.read() as conn:
            for change in changes(conn, plan.group, plan.release.number, *changed_range(shard, plan.shards)):
                contents.change(change)
        return contents

    def _write(self, shard: int, contents: Contents) -> SegmentRef | None:
        models = contents.models()
        if not models:
            return None
        group = self._plan.group.name
        written = write_segment(models, group=group, shard=shard, shards=segment_shards(shard, self._plan.shards))
        stored = self._store.put(written)
        return SegmentRef(shard, stored.digest, stored.size, len(models))


def _ages(segment: Segment, stale_limit: float) -> Counts:
    stale = np.nonzero(segment.trained < stale_limit)[0]
    return Counts(
        stale=len(stale),
        undated=int(np.isnan(segment.trained).sum()),
        verdicts=segment.verdicts,
        stale_keys=tuple(segment.entry(row).key for row in stale[:NAMED].tolist()),
    )


def _finish(
    conn: Connection,
    plan: Plan,
    manifest: Manifest,
    digest: str,
    counts: Counts,
    failed: Sequence[PartitionKey],
    now: float,
) -> Release:
    broken = broken_gates(counts, plan.release.gates)
    changed = changed_shards(plan.base, manifest)
    report = report_json(counts, shards=manifest.shards, changed=changed, broken=broken)
    return finish_release(
        conn,
        plan.group,
        plan.release.number,
        manifest=digest,
        models=manifest.models,
        size=manifest.size,
        report=report,
        blocked=bool(broken),
        now=now,
        failed=failed,
    )
