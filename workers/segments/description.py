"""What a segment file holds, for whoever must look into one: as a whole, model by model, and one model in full."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from registry.errors import PartitionNotFoundError
from registry.keys import key_id
from workers.packing.description import PackDescription, describe_pack
from workers.packing.layout import FORMAT as PACK_FORMAT
from workers.packing.verdicts import MEANINGS
from workers.segments.layout import StoredEntry
from workers.segments.reader import Segment
from workers.segments.verification import MOST_INPUTS, fault_of


@dataclass(frozen=True, slots=True)
class VerdictCount:
    """How many models have a verdict, what it means, and of which runtimes they are."""

    models: int
    meaning: str
    runtimes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PackSizes:
    """Bytes of packs."""

    least: int
    median: int
    most: int


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """One array: its safetensors dtype, its shape, and its first byte and end counted from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SegmentDescription:
    """A segment as a whole.

    Attributes:
        shard: -1 for a release's fallback models.
        pack_format: None where the format has no packs.
        bytes: of the file, and of its header, index, packs and stored frames.
        pack_bytes: None where nothing is packed.
    """

    format: str
    pack_format: int | None
    group: str
    shard: int
    shards: int
    models: int
    bytes: Mapping[str, int]
    verdicts: Mapping[str, VerdictCount]
    runtimes: Mapping[str, int]
    pack_bytes: PackSizes | None
    arrays: tuple[ArrayPlace, ...]


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One model.

    Attributes:
        bytes: of its pack or frame in this file; 0 for a large model, which lies alone.
        reached: whether its bytes were looked at: those of a large model need their store.
        fault: what is wrong with them, empty for nothing.
        pack: its pack in words, None for a stored model.
    """

    entry: StoredEntry
    row: int
    bytes: int
    reached: bool
    fault: str
    pack: PackDescription | None


def describe_segment(segment: Segment) -> SegmentDescription:
    """What the header and the index say."""
    header = segment.header
    first = len(header.spelled)
    runtimes: dict[str, int] = {}
    for (_, runtime), count in segment.kinds.items():
        runtimes[runtime] = runtimes.get(runtime, 0) + count
    return SegmentDescription(
        format=header.format,
        pack_format=PACK_FORMAT if "packs" in header.spans else None,
        group=header.group,
        shard=header.shard,
        shards=header.shards,
        models=header.models,
        bytes={
            "file": header.file_size,
            "header": first,
            "index": header.index_end - first,
            "packs": header.stored_at - header.index_end,
            "stored": header.file_size - header.stored_at,
        },
        verdicts=_verdicts(segment),
        runtimes=runtimes,
        pack_bytes=_pack_sizes(segment),
        arrays=tuple(
            ArrayPlace(name, dtype, header.shapes[name], first + header.spans[name][0], first + header.spans[name][1])
            for name, (dtype, _) in header.arrays.items()
        ),
    )


def list_models(segment: Segment, count: int) -> Iterator[dict[str, Any]]:
    """The first models in the index's order, which is that of their keys' identities. Raises SegmentDamagedError."""
    for row in range(min(count, len(segment))):
        entry = segment.entry(row)
        yield {
            "key": entry.key,
            "version": entry.version,
            "runtime": entry.runtime,
            "verdict": entry.verdict,
            "bytes": segment.packs.length(row) or segment.length(row),
            "trained_through": entry.trained_through,
        }


def describe_model(segment: Segment, key: str, inputs: int = MOST_INPUTS) -> ModelDescription:
    """One model in full, its bytes checked as `verify` checks them.

    Raises:
        PartitionNotFoundError: if the segment has no model for this key.
        SegmentDamagedError: if what the index says of it cannot be read.
    """
    row = segment.find(key_id(key))
    if row < 0:
        raise PartitionNotFoundError(f"no model for {key!r} in this segment")
    length = segment.packs.length(row)
    entry = segment.entry(row)
    return ModelDescription(
        entry=entry,
        row=row,
        bytes=length or segment.length(row),
        reached=entry.place is None or segment.reaches_large,
        fault=fault_of(segment, row, inputs),
        pack=describe_pack(segment.packs.read(row)) if length else None,
    )


def _verdicts(segment: Segment) -> Mapping[str, VerdictCount]:
    found: dict[str, dict[str, int]] = {}
    for (verdict, runtime), count in segment.kinds.items():
        found.setdefault(verdict, {})[runtime] = count
    return {verdict: VerdictCount(sum(counts.values()), MEANINGS[verdict], counts) for verdict, counts in found.items()}


def _pack_sizes(segment: Segment) -> PackSizes | None:
    lengths = np.array([segment.packs.length(row) for row in range(len(segment))], dtype=np.int64)
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return None
    return PackSizes(int(lengths.min()), int(np.median(lengths)), int(lengths.max()))
