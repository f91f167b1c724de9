"""Every byte of a segment compared with what was promised of it, for whoever doubts a disk.

Opening a segment checks its header, its index and every bound in it. The rest is checked here, model by model: a
pack's checksum and that it is sound, a stored model's SHA-256. Packs are read, not mapped, so that a file that is cut
short meanwhile is a fault and no crash.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from registry.signature import MAX_INPUTS
from workers.errors import SegmentDamagedError
from workers.packing.description import shape_claimed
from workers.packing.layout import HEAD_WORDS
from workers.packing.verdicts import PACKED
from workers.packing.wire import checksum_of
from workers.segments.reader import Segment

# A segment does not hold its group's signature. Without its number of inputs the most that any signature may have
# are allowed; columns and classes are those that the pack itself speaks of.
MOST_INPUTS: Final = MAX_INPUTS


@dataclass(frozen=True, slots=True)
class Fault:
    """A model that is not what was written; the key is None where it cannot be read."""

    row: int
    key: str | None
    what: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked and what is wrong.

    Attributes:
        inputs: how many the packs were allowed to read.
        packs, stored: models that were checked.
        elsewhere: large models, whose bytes lie in no segment and could not be reached.
    """

    inputs: int
    packs: int
    stored: int
    elsewhere: int
    faults: tuple[Fault, ...]


def verify(segment: Segment, inputs: int = MOST_INPUTS) -> Verification:
    """Check every model of an open segment, the large ones too if it was opened with their store."""
    packs = stored = elsewhere = 0
    faults = []
    for row in range(len(segment)):
        if segment.packs.length(row):
            packs += 1
        elif not segment.length(row) and not segment.reaches_large:
            elsewhere += 1
            continue
        else:
            stored += 1
        what = fault_of(segment, row, inputs)
        if what:
            faults.append(Fault(row, _key(segment, row), what))
    return Verification(inputs, packs, stored, elsewhere, tuple(faults))


def fault_of(segment: Segment, row: int, inputs: int = MOST_INPUTS) -> str:
    """What is wrong with a model, empty for nothing; a large one's bytes are read if the segment has its store."""
    return "; ".join(_faults(segment, row, inputs))


def _faults(segment: Segment, row: int, inputs: int) -> Iterator[str]:
    try:
        entry = segment.entry(row)
        if any(position >= inputs for position, _ in entry.codes):
            yield f"it has codes for an input past the {inputs} there are"
        if entry.verdict == PACKED:
            yield from _pack_faults(segment.packs.read(row), segment.packs.checksum(row), inputs)
        elif entry.place is None or segment.reaches_large:
            segment.read(row)
    except SegmentDamagedError as error:
        yield error.detail


def _pack_faults(pack: bytes, promised: int, inputs: int) -> Iterator[str]:
    from workers.packing.checks import SOUND, check  # noqa: PLC0415 - numba, only where there are packs

    words = np.frombuffer(pack, dtype=np.int64)
    address = words.ctypes.data
    found = checksum_of(pack)
    if found != promised:
        yield f"its pack has the checksum {found:016x}, promised was {promised:016x}"
    if len(words) < HEAD_WORDS:
        yield "its pack is too short to have a head"
        return
    failed = int(check(address, len(words), *shape_claimed(pack, inputs)))
    if failed != SOUND:
        yield f"its pack is not sound (check {failed})"


def _key(segment: Segment, row: int) -> str | None:
    try:
        return segment.entry(row).key
    except SegmentDamagedError:
        return None
