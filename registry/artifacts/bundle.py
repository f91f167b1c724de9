"""Bundles: many artifacts in one object, because a fleet of small models must not become a fleet of small files.

A bundle is nothing but zstd frames one after another; the version rows say which slice is whose. Frames are copied
from here into segments as they are, without being compressed again.
"""

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final, Self

from registry.artifacts.frames import compress, decompress
from registry.artifacts.store import ArtifactStore
from registry.errors import ArtifactDamagedError, ArtifactMissingError
from registry.records import BundleSlice

OPEN_BUNDLES: Final = 32


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


class BundleReader:
    """Reads many slices, keeping the bundles it read from last open. For one thread; `close` it.

    Opening costs more than reading a small frame, and neighbours in a segment often come from one bundle.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._open: dict[str, BinaryIO] = {}  # least recently opened first

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all bundles; a later read opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def frame(self, place: BundleSlice) -> bytes:
        """A frame as it lies in its bundle, compressed.

        Raises:
            ArtifactMissingError: if the bundle is gone.
            ArtifactDamagedError: if the bundle ends before the slice does.
        """
        if place.offset < 0 or place.length <= 0:
            raise ArtifactDamagedError(f"no slice: {place.length} bytes at {place.offset} of bundle {place.bundle}")
        descriptor = self._opened(place.bundle).fileno()
        if place.offset + place.length > os.fstat(descriptor).st_size:
            raise ArtifactDamagedError(f"bundle {place.bundle} ends before {place.offset + place.length}")
        frame = os.pread(descriptor, place.length, place.offset)
        if len(frame) != place.length:
            raise ArtifactDamagedError(f"bundle {place.bundle} gave {len(frame)} of {place.length} bytes")
        return frame

    def read(self, place: BundleSlice, limit: int) -> bytes:
        """An artifact's own bytes, at most `limit` of them; compare them with `frames.verified`.

        Raises:
            ArtifactMissingError, ArtifactDamagedError: as `frame`, or if the slice is no frame within the limit.
        """
        return decompress(self.frame(place), limit)

    def _opened(self, digest: str) -> BinaryIO:
        file = self._open.get(digest)
        if file is None:
            if len(self._open) >= OPEN_BUNDLES:
                self._open.pop(next(iter(self._open))).close()
            try:
                file = self._open[digest] = self._store.path(digest).open("rb", buffering=0)
            except FileNotFoundError as error:  # swept since its path was asked for
                raise ArtifactMissingError(f"bundle {digest} is gone") from error
        return file


def read_slice(store: ArtifactStore, place: BundleSlice, limit: int) -> bytes:
    """One artifact's own bytes. Raises as `BundleReader.read`."""
    with BundleReader(store) as reader:
        return reader.read(place, limit)
