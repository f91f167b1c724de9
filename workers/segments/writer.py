"""Writing a segment: the index in one go, then pack after pack and frame after frame.

The header needs every size beforehand, so a writer is given what is known of each model and the length of its pack or
frame, and asks for the bytes themselves only when their turn has come: one is in memory at a time. The same models
give the same bytes, so a shard whose models did not change keeps its digest.
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
from workers.packing.verdicts import PACKED, VERDICTS
from workers.segments.layout import RUNTIMES, SegmentHeader, StoredEntry


@dataclass(frozen=True, slots=True)
class SegmentModel:
    """One model to write: what is known of it, and its bytes of `length`, fetched when its turn comes.

    A packed model's bytes are its pack, of another its zstd frame; a large one (its entry has a `place`) has none.

    Attributes:
        checksum: XXH64 of the pack, 0 for another.
    """

    entry: StoredEntry
    length: int
    content: Callable[[], bytes]
    checksum: int = 0

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
        stored_size=sum(map(_frame_bytes, chosen)),
        packs_size=sum(map(_pack_words, chosen)),
    )
    index = _index(header, [identity for identity, _ in found], chosen, metas)
    checksum = blake2b(header.spelled, digest_size=16)
    checksum.update(index)
    yield replace(header, checksum=checksum.hexdigest()).spelled
    yield index
    yield from _contents(model for model in chosen if model.entry.verdict == PACKED)
    yield from _contents(model for model in chosen if model.entry.verdict != PACKED)


def trained_seconds(entry: StoredEntry) -> float:
    """Seconds since 1970 that a model's training data reaches: `trained_through`, else `trained_at`, else NaN."""
    for text in (entry.trained_through, entry.trained_at):
        try:
            if text is not None:
                return timestamp_micros(text) / 1e6
        except ValueError:
            continue
    return float("nan")


def _contents(models: Iterable[SegmentModel]) -> Iterator[bytes]:
    for model in models:
        if not model.length:
            continue
        content = model.content()
        if len(content) != model.length:
            raise ValueError(f"{model.entry.key!r} has {len(content)} bytes, announced {model.length}")
        yield content


def _frame_bytes(model: SegmentModel) -> int:
    return 0 if model.entry.verdict == PACKED else model.length


def _pack_words(model: SegmentModel) -> int:
    return model.length // 8 if model.entry.verdict == PACKED else 0


def _meta(entry: StoredEntry) -> bytes:
    place = entry.place and (entry.place.bundle, entry.place.offset, entry.place.length)
    return orjson.dumps([entry.key, entry.trained_through, entry.trained_at, entry.classes, place, entry.codes])


def _index(
    header: SegmentHeader, identities: Sequence[bytes], models: Sequence[SegmentModel], metas: Sequence[bytes]
) -> bytes:
    entries = [model.entry for model in models]
    values: dict[str, list[int] | list[float]] = {
        "identity_high": [int.from_bytes(identity[:8], "big") for identity in identities],
        "identity_low": [int.from_bytes(identity[8:], "big") for identity in identities],
        "frame_bounds": list(accumulate(map(_frame_bytes, models), initial=0)),
        "meta_bounds": list(accumulate(map(len, metas), initial=0)),
        "pack_bounds": list(accumulate(map(_pack_words, models), initial=0)),
        "pack_checksum": [model.checksum for model in models],
        "size": [entry.size for entry in entries],
        "heap": [entry.heap for entry in entries],
        "trained": [trained_seconds(entry) for entry in entries],
        "version": [entry.version for entry in entries],
        "slot": [entry.slot for entry in entries],
        "runtime": [RUNTIMES.index(entry.runtime) for entry in entries],
        "verdict": [VERDICTS.index(entry.verdict) for entry in entries],
    }
    arrays = {name: np.array(column, dtype=header.arrays[name][1]).tobytes() for name, column in values.items()}
    arrays["digest"] = b"".join(bytes.fromhex(entry.digest) for entry in entries)
    arrays["meta"] = b"".join(metas)
    arrays["padding"] = bytes(header.shapes["padding"][0])
    return b"".join(arrays[name] for name in header.arrays if name not in ("packs", "stored"))
