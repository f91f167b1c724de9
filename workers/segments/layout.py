"""How a segment file is laid out: a safetensors file whose header has exactly one spelling.

A reader parses the header, spells it again and compares: whatever the header lies about (a count, an offset, a type),
the two differ and the file is refused, before any of its numbers is used. Format 2:

    8 bytes, length of the header | JSON header, padded to a page | the index | the packs | the stored frames

The index is all arrays before `packs`, widest items first, padded to a page, so that `packs` can be mapped by itself;
a checksum in the header covers the header and the index. `packs` holds the models that are scored where they lie (see
`workers.packing.layout`), in index order, each a multiple of 64 bytes with a checksum of its own. `stored` holds one
zstd frame for each of the others; each frame is covered by its artifact's own SHA-256. Format 1, which is still read,
has no packs and is padded to 8 bytes.

safetensors, because it is a length, a JSON header and plain arrays: other programs read it, and it can be spelled in
one way only. Arrow IPC lays the same bytes at the same places behind a flatbuffer, which has many spellings.
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
from workers.packing.layout import FORMAT as PACK_FORMAT
from workers.packing.verdicts import UNTRIED, VERDICTS

FORMAT: Final = "2"
FORMATS: Final = ("1", "2")
KINDS: Final[Mapping[str, str]] = {"1": "stored", "2": "models"}
RUNTIMES: Final[tuple[RuntimeName, ...]] = get_args(RuntimeName)
LARGEST_MODEL: Final = 1 << 31  # bytes; no artifact or heap figure of a whole file is near it
MAX_HEADER: Final = 1 << 16
PAGE: Final = 4096
LARGE_MODEL_BYTES: Final = 8 << 20  # an artifact over this lies alone: no hotfix of a neighbour copies it

_NO_CHECKSUM: Final = "0" * 32
StoredCodes = tuple[tuple[int, tuple[tuple[Label | None, int], ...]], ...]
"""Of each input that goes by categories its position and the codes of its values."""

_Array = tuple[str, str]  # safetensors dtype, numpy dtype
_INDEX: Final[dict[str, _Array]] = {
    "identity_high": ("U64", "<u8"),  # first 64 bits of the key's identity, big-endian, ascending
    "identity_low": ("U64", "<u8"),  # the other 64 bits
    "frame_bounds": ("U64", "<u8"),  # model i's frame is stored[frame_bounds[i]:frame_bounds[i + 1]]
    "meta_bounds": ("U64", "<u8"),  # likewise in meta
    "pack_bounds": ("U64", "<u8"),  # likewise in packs, in its words of 8 bytes
    "pack_checksum": ("U64", "<u8"),  # XXH64 of the pack, 0 for none
    "size": ("U64", "<u8"),  # bytes of the artifact
    "heap": ("U64", "<u8"),  # measured bytes of the loaded model
    "trained": ("F64", "<f8"),  # seconds since 1970 that training data reaches; NaN where the author did not say
    "version": ("I32", "<i4"),
    "slot": ("U16", "<u2"),
    "digest": ("U8", "|u1"),  # SHA-256 of the artifact, 32 bytes a model
    "runtime": ("U8", "|u1"),  # position in the header's list of runtimes
    "verdict": ("U8", "|u1"),  # position in the header's list of verdicts: packed, or why not
    "meta": ("U8", "|u1"),  # one JSON list a model: key, trained_through, trained_at, classes, place, codes
    "padding": ("U8", "|u1"),  # zeros up to a page
}
_PACKS: Final = frozenset({"pack_bounds", "pack_checksum", "verdict", "padding"})
ARRAYS: Final[Mapping[str, Mapping[str, _Array]]] = {
    "1": {name: item for name, item in _INDEX.items() if name not in _PACKS} | {"stored": ("U8", "|u1")},
    "2": _INDEX | {"packs": ("I64", "<i8"), "stored": ("U8", "|u1")},
}
_BULK: Final = ("packs", "stored")  # the rest is the index


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """What a segment knows of one model besides its bytes.

    Attributes:
        key: canonical text.
        size, heap: bytes of the artifact, bytes of the loaded model as measured.
        classes: the model's own output classes where its artifact lacks them.
        slot: of the key; 0 for a partial key.
        place: the bundle slice of a large model, which is in no segment; None for another.
        verdict: `packed`, or why the model is stored for its native library.
        codes: of a packed model, the values of its inputs that go by categories: (position, ((value, code), ...)).
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
    verdict: str = UNTRIED
    codes: StoredCodes = ()


@dataclass(frozen=True)
class SegmentHeader:
    """Everything the header says. `shard` is -1 in a release's fallback segment; sizes are bytes, of packs words."""

    group: str
    shard: int
    shards: int
    models: int
    meta_size: int
    stored_size: int
    packs_size: int = 0
    checksum: str = _NO_CHECKSUM
    format: str = FORMAT

    @property
    def arrays(self) -> Mapping[str, _Array]:
        """The arrays of this format, in file order."""
        return ARRAYS[self.format]

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every array, in file order."""
        special: dict[str, tuple[int, ...]] = {
            "frame_bounds": (self.models + 1,),
            "meta_bounds": (self.models + 1,),
            "pack_bounds": (self.models + 1,),
            "digest": (self.models, 32),
            "meta": (self.meta_size,),
            "packs": (self.packs_size,),
            "stored": (self.stored_size,),
        }
        shapes = {name: special.get(name, (self.models,)) for name in self.arrays if name != "padding"}
        if "padding" in self.arrays:
            index = sum(_bytes(self.arrays[name], shape) for name, shape in shapes.items() if name not in _BULK)
            shapes["padding"] = (-index % PAGE,)
        return {name: shapes[name] for name in self.arrays}

    @cached_property
    def spans(self) -> Mapping[str, tuple[int, int]]:
        """First byte and end of every array, counted from the end of the header."""
        spans = {}
        end = 0
        for name, shape in self.shapes.items():
            start, end = end, end + _bytes(self.arrays[name], shape)
            spans[name] = (start, end)
        return spans

    @cached_property
    def spelled(self) -> bytes:
        """The file's bytes up to its first array."""
        about = {
            "format": self.format,
            "kind": KINDS[self.format],
            "group": self.group,
            "shard": str(self.shard),
            "shards": str(self.shards),
            "runtimes": ",".join(RUNTIMES),
            "checksum": self.checksum,
        }
        if self.format != "1":
            about |= {"verdicts": ",".join(VERDICTS), "pack_format": str(PACK_FORMAT)}
        body: dict[str, Any] = {"__metadata__": about}
        for name, (dtype, _) in self.arrays.items():
            body[name] = {"dtype": dtype, "shape": self.shapes[name], "data_offsets": self.spans[name]}
        text = orjson.dumps(body)
        text += b" " * (-(len(text) + 8) % (8 if self.format == "1" else PAGE))
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
        """Position in the file where the index ends and the packs, if any, begin: then at a page."""
        return len(self.spelled) + self.spans["packs" if "packs" in self.spans else "stored"][0]

    @property
    def stored_at(self) -> int:
        """Position in the file where the stored frames begin."""
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
    if given["format"] not in FORMATS:
        raise SegmentDamagedError(
            f"segment format {given['format']!r} is not read by this version (reads {', '.join(FORMATS)})"
        )
    header = SegmentHeader(
        group=str(given["group"]),
        shard=int(given["shard"]),
        shards=int(given["shards"]),
        models=int(body["version"]["shape"][0]),
        meta_size=int(body["meta"]["shape"][0]),
        stored_size=int(body["stored"]["shape"][0]),
        packs_size=int(body["packs"]["shape"][0]) if "packs" in body else 0,
        checksum=str(given["checksum"]),
        format=given["format"],
    )
    if min(header.models, header.meta_size, header.stored_size, header.packs_size) < 0:
        raise ValueError("a negative count")
    return header


def _bytes(array: _Array, shape: tuple[int, ...]) -> int:
    return prod(shape) * int(array[1][2:])
