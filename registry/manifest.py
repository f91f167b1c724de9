"""The manifest: which segment file answers for which shard of a release.

A release's contents are its segments; the manifest names them by digest, so two releases share what did not change
and a member can tell from the manifest alone what it must map. Canonical JSON, stored as an object of the artifact
store. Format 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from registry.errors import ArtifactDamagedError
from registry.signature import Signature

FORMAT: Final = 1
FALLBACK_SHARD: Final = -1


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """One segment of a release: its shard (-1 is the fallback segment), digest, bytes and count of models."""

    shard: int
    digest: str
    size: int
    models: int


@dataclass(frozen=True)
class Manifest:
    """The segments of one release. A shard without models has no segment.

    `key_fields`, `shard_by` and `signature` are those the release was built with.
    """

    group: str
    release: int
    shards: int
    key_fields: tuple[str, ...]
    shard_by: tuple[str, ...]
    signature: Signature
    segments: tuple[SegmentRef, ...]

    @property
    def by_shard(self) -> Mapping[int, SegmentRef]:
        """Segments by shard number."""
        return {segment.shard: segment for segment in self.segments}

    @property
    def models(self) -> int:
        """How many models the release holds, fallback models included."""
        return sum(segment.models for segment in self.segments)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, segments by shard."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "group": self.group,
            "release": self.release,
            "shards": self.shards,
            "key_fields": list(self.key_fields),
            "shard_by": list(self.shard_by),
            "signature": self.signature.to_json(),
            "segments": [
                [segment.shard, segment.digest, segment.size, segment.models]
                for segment in sorted(self.segments, key=lambda segment: segment.shard)
            ],
        }
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def read_manifest(data: bytes) -> Manifest:
    """Parse a manifest.

    Raises:
        ArtifactDamagedError: if the bytes are no manifest of a format this version reads.
    """
    try:
        body = orjson.loads(data)
        if body["format"] != FORMAT:
            raise ArtifactDamagedError(f"manifest format {body['format']} is not read by this version (reads {FORMAT})")
        return Manifest(
            group=body["group"],
            release=body["release"],
            shards=body["shards"],
            key_fields=tuple(body["key_fields"]),
            shard_by=tuple(body["shard_by"]),
            signature=Signature.from_json(body["signature"], body["key_fields"]),
            segments=tuple(SegmentRef(*segment) for segment in body["segments"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactDamagedError(f"not a manifest: {error}") from error


@dataclass(frozen=True, slots=True)
class ManifestDiff:
    """What a member must do to go from one manifest to another: segments to map, segments to let go."""

    added: tuple[SegmentRef, ...]
    dropped: tuple[SegmentRef, ...]


def diff_manifests(old: Manifest | None, new: Manifest) -> ManifestDiff:
    """Compare by digest: a segment that both name is neither added nor dropped."""
    before = {segment.digest for segment in old.segments} if old else set()
    after = {segment.digest for segment in new.segments}
    return ManifestDiff(
        added=tuple(segment for segment in new.segments if segment.digest not in before),
        dropped=tuple(segment for segment in (old.segments if old else ()) if segment.digest not in after),
    )
