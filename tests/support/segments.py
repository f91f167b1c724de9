"""Small segments of known contents, to be read back, damaged and lied about."""

import hashlib
from pathlib import Path

from registry.artifacts.frames import compress
from registry.records import RuntimeName
from workers.packing.verdicts import PACKED
from workers.packing.wire import checksum_of
from workers.segments.layout import StoredEntry
from workers.segments.reader import Segment
from workers.segments.writer import SegmentModel, write_segment

RUNTIMES: tuple[RuntimeName, ...] = ("lightgbm", "onnx", "sklearn")


def artifact(number: int) -> bytes:
    return f"tree {number}\n".encode() * (1 + number % 7)


def entry_of(number: int) -> StoredEntry:
    raw = artifact(number)
    return StoredEntry(
        key=f"store={number}/brand=b%20{number % 3}",
        version=1 + number % 5,
        runtime=RUNTIMES[number % 3],
        digest=hashlib.sha256(raw).hexdigest(),
        size=len(raw),
        heap=1024 + number,
        classes=("no", "yes") if number % 2 else (),
        trained_through="2026-11-19" if number % 4 else None,
        trained_at="2026-11-20T04:00:00Z",
        slot=number % 4096,
    )


def in_memory(entry: StoredEntry, content: bytes) -> SegmentModel:
    """A model whose frame, or pack if its verdict says so, is in memory."""
    return SegmentModel(entry, len(content), lambda: content, checksum_of(content) if entry.verdict == PACKED else 0)


def models(count: int) -> list[SegmentModel]:
    return [in_memory(entry_of(number), compress(artifact(number))) for number in range(count)]


def segment_bytes(found: list[SegmentModel]) -> bytes:
    return b"".join(write_segment(found, group="oj-sales", shard=3, shards=8))


def opened(path: Path, data: bytes) -> Segment:
    path.write_bytes(data)
    return Segment.open(path)


WHOLE = segment_bytes(models(12))
