"""What one segment of a release holds: the base's models as they are, with the changes put in their place.

Frames are copied, never compressed again. A changed artifact's bytes are compared with their SHA-256 once, here, when
they enter a segment; what fails leaves its key with the base's version.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from registry.artifacts.bundle import BundleReader
from registry.artifacts.frames import verified
from registry.errors import ArtifactDamagedError, ArtifactMissingError
from registry.keys import KeySchema, PartitionKey
from registry.records import Version
from registry.releases import Change
from registry.versions import slot_for
from workers.builder.report import Counts, Failure
from workers.segments.layout import StoredEntry
from workers.segments.reader import Segment
from workers.segments.writer import SegmentModel

LARGE_MODEL_BYTES: Final = 8 << 20  # an artifact over this lies alone: no hotfix of a neighbour copies it


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
    verified(bundles.read(version.place, version.size), version.digest)
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
    )
    return SegmentModel.alone(entry) if large else SegmentModel.at(entry, bundles, version.place)


def _same(entry: StoredEntry, version: Version) -> bool:
    return (entry.version, entry.digest) == (version.number, version.digest)


def _carried(segment: Segment, row: int) -> SegmentModel:
    return SegmentModel(segment.entry(row), segment.length(row), partial(segment.frame, row))
