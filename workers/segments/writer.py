"""Writing a segment: the index in one go, then frame after frame.

The header needs every size beforehand, so a writer is given what is known of each model and its frame's length, and
asks for the frame itself only when its turn has come: one frame is in memory at a time. The same models give the same
bytes, so a shard whose models did not change keeps its digest.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import accumulate, pairwise

import numpy as np
import orjson

from registry.artifacts.bundle import BundleReader
from registry.keys import key_id
from registry.records import BundleSlice
from registry.signature import timestamp_micros
from workers.segments.layout import ARRAYS, RUNTIMES, SegmentHeader, StoredEntry


@dataclass(frozen=True, slots=True)
class SegmentModel:
    """One model to write: what is known of it, and its zstd frame of `length` bytes, fetched when its turn comes.

    A large model (its entry has a `place`) has no frame: length 0.
    """

    entry: StoredEntry
    length: int
    frame: Callable[[], bytes]

    @classmethod
    def of(cls, entry: StoredEntry, frame: bytes) -> "SegmentModel":
        """A model whose frame is in memory."""
        return cls(entry, len(frame), lambda: frame)

    @classmethod
    def at(cls, entry: StoredEntry, bundles: BundleReader, place: BundleSlice) -> "SegmentModel":
        """A model whose frame is copied from a bundle."""
        return cls(entry, place.length, partial(bundles.frame, place))

    @classmethod
    def alone(cls, entry: StoredEntry) -> "SegmentModel":
        """A large model, which stays where its entry's `place` says."""
        return cls(entry, 0, bytes)


def write_segment(models: Iterable[SegmentModel], *, group: str, shard: int, shards: int) -> Iterator[bytes]:
    """The bytes of a segment, for `ArtifactStore.put`; `models` in any order.

    Raises:
        ValueError: if two models have one key, or a frame has not the length it was announced with.
    """
    found = sorted(((key_id(model.entry.key), model) for model in models), key=lambda pair: pair[0])
    if any(one[0] == next_[0] for one, next_ in pairwise(found)):
        raise ValueError("two models of one key cannot lie in one segment")
    chosen = [model for _, model in found]
    metas = [_meta(model.entry) for model in chosen]
    header = SegmentHeader(
        group=group,
        shard=shard,
        shards=shards,
        models=len(chosen),
        meta_size=sum(map(len, metas)),
        stored_size=sum(model.length for model in chosen),
    )
    index = _index([identity for identity, _ in found], chosen, metas)
    checksum = blake2b(header.spelled, digest_size=16)
    checksum.update(index)
    yield replace(header, checksum=checksum.hexdigest()).spelled
    yield index
    yield from _frames(chosen)


def trained_seconds(entry: StoredEntry) -> float:
    """Seconds since 1970 that a model's training data reaches: `trained_through`, else `trained_at`, else NaN."""
    for text in (entry.trained_through, entry.trained_at):
        try:
            if text is not None:
                return timestamp_micros(text) / 1e6
        except ValueError:
            continue
    return float("nan")


def _frames(models: Sequence[SegmentModel]) -> Iterator[bytes]:
    for model in models:
        if not model.length:
            continue
        frame = model.frame()
        if len(frame) != model.length:
            raise ValueError(f"the frame of {model.entry.key!r} has {len(frame)} bytes, announced {model.length}")
        yield frame


def _meta(entry: StoredEntry) -> bytes:
    place = entry.place and (entry.place.bundle, entry.place.offset, entry.place.length)
    return orjson.dumps([entry.key, entry.trained_through, entry.trained_at, entry.classes, place])


def _index(identities: Sequence[bytes], models: Sequence[SegmentModel], metas: Sequence[bytes]) -> bytes:
    entries = [model.entry for model in models]
    values: dict[str, list[int] | list[float]] = {
        "identity_high": [int.from_bytes(identity[:8], "big") for identity in identities],
        "identity_low": [int.from_bytes(identity[8:], "big") for identity in identities],
        "frame_bounds": list(accumulate((model.length for model in models), initial=0)),
        "meta_bounds": list(accumulate(map(len, metas), initial=0)),
        "size": [entry.size for entry in entries],
        "heap": [entry.heap for entry in entries],
        "trained": [trained_seconds(entry) for entry in entries],
        "version": [entry.version for entry in entries],
        "slot": [entry.slot for entry in entries],
        "runtime": [RUNTIMES.index(entry.runtime) for entry in entries],
    }
    arrays = {name: np.array(column, dtype=ARRAYS[name][1]).tobytes() for name, column in values.items()}
    arrays["digest"] = b"".join(bytes.fromhex(entry.digest) for entry in entries)
    arrays["meta"] = b"".join(metas)
    return b"".join(arrays[name] for name in ARRAYS if name != "stored")
