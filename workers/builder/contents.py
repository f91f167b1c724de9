"""What one segment of a release holds: the base's models as they are, with the changes put in their place.

Packs and frames are copied, never made again. What enters a segment is verified once, here: a pack by the digest it was
written with, another artifact by its SHA-256. What fails leaves its key with the base's version.
"""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from registry.artifacts.bundle import BundleReader
from registry.artifacts.frames import verified
from registry.errors import ArtifactDamagedError, ArtifactMissingError
from registry.keys import KeySchema, PartitionKey
from registry.records import BundleSlice, Version
from registry.releases import Change
from registry.versions import slot_for
from workers.builder.report import Counts, Failure
from workers.packing.verdicts import LARGE, PACKED
from workers.packing.wire import MOST_CODES, WrittenCodes, checksum_of, read, words_of
from workers.segments.layout import LARGE_MODEL_BYTES, StoredEntry
from workers.segments.reader import Segment
from workers.segments.writer import SegmentModel


@dataclass(slots=True)
class Contents:
    """Models of one segment to be written, and what the release's report says of them.

    One build fills it: first what the base carries, then each change; of two changes of one key the later one holds.
    """

    bundles: BundleReader
    schema: KeySchema
    carried: dict[bytes, tuple[Segment, int]] = field(default_factory=dict)
    entered: dict[bytes, SegmentModel] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    failed: list[PartitionKey] = field(default_factory=list)

    def carry(self, segment: Segment, low: int, high: int) -> None:
        """Take over the base's models whose slots are `low` to before `high`."""
        rows = np.nonzero((segment.slots >= low) & (segment.slots < high))[0]
        for row in rows.tolist():
            self.carried[segment.identity(row)] = (segment, row)

    def change(self, change: Change) -> None:
        """Put a change in place of what the base carries for its key."""
        identity, version = change.key.id, change.version
        held = self.carried.get(identity)
        if version.tombstone:
            self.entered.pop(identity, None)
            if self.carried.pop(identity, None) is not None:
                self.counts += Counts(lost=1, lost_keys=(change.key.text,))
        elif held is None or not _same(held[0].entry(held[1]), version):
            self._enter(change, identity)

    def models(self) -> list[SegmentModel]:
        """Everything that the segment holds, in no order."""
        return [*self.entered.values(), *(_carried(segment, row) for segment, row in self.carried.values())]

    def tally(self) -> Counts:
        """What happened, once all changes are in."""
        return self.counts + Counts(carried=len(self.carried))

    def _enter(self, change: Change, identity: bytes) -> None:
        try:
            slot = slot_for(self.schema, change.key, identity)
            model = entering(self.bundles, change, max(slot, 0))
        except (ArtifactMissingError, ArtifactDamagedError) as problem:
            self.failed.append(change.key)
            self.counts += Counts(failed=1, failures=(Failure.of(change.key.text, problem),))
            return
        self.entered[identity] = model
        was_held = self.carried.pop(identity, None) is not None
        self.counts += Counts(changed=1) if was_held else Counts(added=1)


def entering(bundles: BundleReader, change: Change, slot: int) -> SegmentModel:
    """A version's model on its way into a segment, its bytes compared with their digest.

    Raises:
        ArtifactMissingError, ArtifactDamagedError: if the bytes that were registered are not there any more.
    """
    version = change.version
    assert version.place is not None
    assert version.digest is not None
    assert version.runtime is not None
    large = version.size > LARGE_MODEL_BYTES
    entry = StoredEntry(
        key=change.key.text,
        version=version.number,
        runtime=version.runtime,
        digest=version.digest,
        size=version.size,
        heap=version.heap,
        classes=version.meta.classes,
        trained_through=version.meta.trained_through,
        trained_at=version.meta.provenance.get("trained_at"),
        slot=slot,
        place=version.place if large else None,
        verdict=LARGE if large else version.packing.verdict,
    )
    if version.pack_place is not None:
        return _entering_pack(bundles, version.pack_place, version.packing.size, entry)
    verified(bundles.read(version.place, version.size), version.digest)
    return SegmentModel.alone(entry) if large else SegmentModel.at(entry, bundles, version.place)


def _entering_pack(bundles: BundleReader, place: BundleSlice, size: int, entry: StoredEntry) -> SegmentModel:
    pack, codes = read_pack(bundles, place, size)
    # Its bytes are read again when its turn comes: a segment's packs together are more than should be in memory.
    checksum = checksum_of(pack)
    return SegmentModel(replace(entry, codes=codes), size, partial(_pack_bytes, bundles, place, size), checksum)


def _pack_bytes(bundles: BundleReader, place: BundleSlice, size: int) -> bytes:
    return _of_size(words_of(bundles.read(place, size + MOST_CODES)), size)


def read_pack(bundles: BundleReader, place: BundleSlice, size: int) -> tuple[bytes, WrittenCodes]:
    """A pack of `size` bytes and its codes, compared with the digest it was written with.

    Raises:
        ArtifactMissingError, ArtifactDamagedError: if what was written is not there any more.
    """
    pack, codes = read(bundles.read(place, size + MOST_CODES))
    return _of_size(pack, size), codes


def _of_size(pack: bytes, size: int) -> bytes:
    if len(pack) != size:
        raise ArtifactDamagedError(f"a pack of {size} bytes has {len(pack)}")
    return pack


def _same(entry: StoredEntry, version: Version) -> bool:
    return (entry.version, entry.digest) == (version.number, version.digest)


def _carried(segment: Segment, row: int) -> SegmentModel:
    entry = segment.entry(row)
    if entry.verdict == PACKED:
        packs = segment.packs
        return SegmentModel(entry, packs.length(row), partial(_carried_pack, segment, row), packs.checksum(row))
    return SegmentModel(entry, segment.length(row), partial(segment.frame, row))


def _carried_pack(segment: Segment, row: int) -> bytes:
    return segment.packs.read(row)  # of the segment, which keeps its file open
