"""Bundles: many artifacts in one object, because a fleet of small models must not become a fleet of small files.

A bundle is nothing but zstd frames one after another; the version rows say which slice is whose. Frames are copied
from here into segments as they are, without being compressed again.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Final

from registry.artifacts.frames import compress, decompress
from registry.artifacts.store import ArtifactStore
from registry.errors import ArtifactDamagedError, ArtifactMissingError
from registry.records import BundleSlice

BUNDLE_BYTES: Final = 32 << 20  # a good size for one bundle of an import: few files, and little to write at once


class BundleWriter:
    """Collects the frames of one bundle in memory. For one thread; `finish` writes it and begins the next.

    Whoever adds calls `finish` when `size` passes `BUNDLE_BYTES` or at a checkpoint; nothing is stored before.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._frames: list[bytes] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, raw: bytes) -> int:
        """Take an artifact; its position in the list that `finish` answers."""
        return self.add_frame(compress(raw))

    def add_frame(self, frame: bytes) -> int:
        """Take an artifact that `frames.compress` has compressed already, perhaps in another process."""
        self._frames.append(frame)
        self.size += len(frame)
        return len(self._frames) - 1

    def finish(self) -> list[BundleSlice]:
        """Store the bundle and answer where each artifact lies, in the order they were added."""
        frames, self._frames, self.size = self._frames, [], 0
        return write_frames(self._store, frames)


def write_bundle(store: ArtifactStore, models: Iterable[bytes]) -> list[BundleSlice]:
    """Store artifacts as one bundle; one is in memory at a time. Nothing is stored for none."""
    return write_frames(store, map(compress, models))


def write_frames(store: ArtifactStore, frames: Iterable[bytes]) -> list[BundleSlice]:
    """Store frames as one bundle and answer where each lies. Nothing is stored for none."""
    waiting = iter(frames)
    first = next(waiting, None)
    if first is None:
        return []
    lengths: list[int] = []
    digest = store.put(_noting_lengths(first, waiting, lengths)).digest
    slices = []
    offset = 0
    for length in lengths:
        slices.append(BundleSlice(digest, offset, length))
        offset += length
    return slices


def _noting_lengths(first: bytes, rest: Iterator[bytes], lengths: list[int]) -> Iterator[bytes]:
    lengths.append(len(first))
    yield first
    for frame in rest:
        lengths.append(len(frame))
        yield frame


def read_frame(store: ArtifactStore, place: BundleSlice) -> bytes:
    """A frame as it lies in its bundle, compressed.

    Raises:
        ArtifactMissingError: if the bundle is gone.
        ArtifactDamagedError: if the bundle ends before the slice does.
    """
    if place.offset < 0 or place.length <= 0:
        raise ArtifactDamagedError(f"no slice: {place.length} bytes at {place.offset} of bundle {place.bundle}")
    try:
        descriptor = os.open(store.path(place.bundle), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:  # swept since its path was asked for
        raise ArtifactMissingError(f"bundle {place.bundle} is gone") from error
    try:
        if place.offset + place.length > os.fstat(descriptor).st_size:
            raise ArtifactDamagedError(f"bundle {place.bundle} ends before {place.offset + place.length}")
        frame = os.pread(descriptor, place.length, place.offset)
    finally:
        os.close(descriptor)
    if len(frame) != place.length:
        raise ArtifactDamagedError(f"bundle {place.bundle} gave {len(frame)} of {place.length} bytes")
    return frame


def read_slice(store: ArtifactStore, place: BundleSlice, limit: int) -> bytes:
    """An artifact's own bytes, at most `limit` of them; compare them with `frames.verified`.

    Raises:
        ArtifactMissingError, ArtifactDamagedError: as `read_frame`, or if the slice is no frame within the limit.
    """
    return decompress(read_frame(store, place), limit)
