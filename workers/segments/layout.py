"""How a segment file is laid out: a safetensors file whose header has exactly one spelling.

A reader parses the header, spells it again and compares: whatever the header lies about (a count, an offset, a type),
the two differ and the file is refused, before any of its numbers is used. Format 1:

    8 bytes, length of the header | JSON header, padded to 8 bytes | arrays, widest items first, without a gap

All arrays but the last, `stored`, are the index; a checksum in the header covers the header and the index. `stored`
holds one zstd frame a model, in index order; each frame is covered by its artifact's own SHA-256.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, Final, get_args

import orjson

from registry.records import BundleSlice, RuntimeName
from registry.signature import Label
from workers.errors import SegmentDamagedError

FORMAT: Final = "1"
KIND: Final = "stored"
RUNTIMES: Final[tuple[RuntimeName, ...]] = get_args(RuntimeName)
LARGEST_MODEL: Final = 1 << 31  # bytes; no artifact or heap figure of a whole file is near it
MAX_HEADER: Final = 1 << 16

_NO_CHECKSUM: Final = "0" * 32
# name: (safetensors dtype, numpy dtype). `stored` stays last, so that the index is one run from the file's start.
ARRAYS: Final[Mapping[str, tuple[str, str]]] = {
    "identity_high": ("U64", "<u8"),  # first 64 bits of the key's identity, big-endian, ascending
    "identity_low": ("U64", "<u8"),  # the other 64 bits
    "frame_bounds": ("U64", "<u8"),  # model i's frame is stored[frame_bounds[i]:frame_bounds[i + 1]]
    "meta_bounds": ("U64", "<u8"),  # likewise in meta
    "size": ("U64", "<u8"),  # bytes of the artifact
    "heap": ("U64", "<u8"),  # measured bytes of the loaded model
    "trained": ("F64", "<f8"),  # seconds since 1970 that training data reaches; NaN where the author did not say
    "version": ("I32", "<i4"),
    "slot": ("U16", "<u2"),
    "digest": ("U8", "|u1"),  # SHA-256 of the artifact, 32 bytes a model
    "runtime": ("U8", "|u1"),  # position in the header's list of runtimes
    "meta": ("U8", "|u1"),  # one JSON list a model: key, trained_through, trained_at, classes, place
    "stored": ("U8", "|u1"),
}


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """What a segment knows of one model besides its bytes.

    Attributes:
        key: canonical text.
        size, heap: bytes of the artifact, bytes of the loaded model as measured.
        classes: the model's own output classes where its artifact lacks them.
        slot: of the key; 0 for a partial key.
        place: the bundle slice of a large model, which is in no segment; None for a stored one.
    """

    key: str
    version: int
    runtime: RuntimeName
    digest: str
    size: int
    heap: int
    classes: tuple[Label, ...] = ()
    trained_through: str | None = None
    trained_at: str | None = None
    slot: int = 0
    place: BundleSlice | None = None


@dataclass(frozen=True)
class SegmentHeader:
    """Everything the header says. `shard` is -1 in a release's fallback segment; sizes are bytes."""

    group: str
    shard: int
    shards: int
    models: int
    meta_size: int
    stored_size: int
    checksum: str = _NO_CHECKSUM

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every array, in file order."""
        special = {
            "frame_bounds": (self.models + 1,),
            "meta_bounds": (self.models + 1,),
            "digest": (self.models, 32),
            "meta": (self.meta_size,),
            "stored": (self.stored_size,),
        }
        return {name: special.get(name, (self.models,)) for name in ARRAYS}

    @cached_property
    def spans(self) -> Mapping[str, tuple[int, int]]:
        """First byte and end of every array, counted from the end of the header."""
        spans = {}
        end = 0
        for name, shape in self.shapes.items():
            start, end = end, end + prod(shape) * int(ARRAYS[name][1][2:])
            spans[name] = (start, end)
        return spans

    @cached_property
    def spelled(self) -> bytes:
        """The file's bytes up to its first array."""
        body: dict[str, Any] = {
            "__metadata__": {
                "format": FORMAT,
                "kind": KIND,
                "group": self.group,
                "shard": str(self.shard),
                "shards": str(self.shards),
                "runtimes": ",".join(RUNTIMES),
                "checksum": self.checksum,
            }
        }
        for name, (dtype, _) in ARRAYS.items():
            body[name] = {"dtype": dtype, "shape": self.shapes[name], "data_offsets": self.spans[name]}
        text = orjson.dumps(body)
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @property
    def unsigned(self) -> "SegmentHeader":
        """The header as the checksum sees it: without the checksum."""
        return replace(self, checksum=_NO_CHECKSUM)

    @property
    def file_size(self) -> int:
        """Bytes of the whole file."""
        return len(self.spelled) + self.spans["stored"][1]

    @property
    def index_end(self) -> int:
        """Position in the file where the index ends and the stored frames begin."""
        return len(self.spelled) + self.spans["stored"][0]


def read_header(start: bytes, file_size: int) -> SegmentHeader:
    """Parse the header from a file's first bytes (at least 8 + MAX_HEADER, or the whole file).

    Raises:
        SegmentDamagedError: if it is not exactly what a writer of this format spells for a file of this size.
    """
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > min(MAX_HEADER, len(start) - 8):
        raise SegmentDamagedError(f"no segment: the header is cut short or claims {length} bytes")
    try:
        header = _parsed(orjson.loads(start[8 : 8 + length]))
        honest = header.spelled == start[: 8 + length]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise SegmentDamagedError(f"no segment: the header cannot be read: {error!r}") from error
    if not honest:
        raise SegmentDamagedError("no segment: the header is not spelled as a writer spells it")
    if header.file_size != file_size:
        raise SegmentDamagedError(f"a segment of {header.file_size} bytes has {file_size}")
    return header


def _parsed(body: Any) -> SegmentHeader:
    given = body["__metadata__"]
    if given["format"] != FORMAT:
        raise SegmentDamagedError(f"segment format {given['format']!r} is not read by this version (reads {FORMAT!r})")
    header = SegmentHeader(
        group=str(given["group"]),
        shard=int(given["shard"]),
        shards=int(given["shards"]),
        models=int(body["version"]["shape"][0]),
        meta_size=int(body["meta"]["shape"][0]),
        stored_size=int(body["stored"]["shape"][0]),
        checksum=str(given["checksum"]),
    )
    if min(header.models, header.meta_size, header.stored_size) < 0:
        raise ValueError("a negative count")
    return header
