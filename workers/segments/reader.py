"""Reading a segment: its index is mapped, its packs are mapped by themselves, its frames are read at a load.

Nothing a damaged file says is believed. At open the header, the index's checksum and every bound in it are checked;
a pack is checked when it is first touched, a stored model's bytes are compared with their SHA-256 each time they are
read. What does not fit is refused as `SegmentDamagedError`, never answered.
"""

import mmap
import os
import weakref
from bisect import bisect_left
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Any, Final, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from registry.artifacts.bundle import read_slice
from registry.artifacts.disk_cache import hold
from registry.artifacts.frames import decompress, verified
from registry.artifacts.store import ArtifactStore
from registry.errors import ArtifactDamagedError, ArtifactMissingError
from registry.keys import SLOTS, key_id
from registry.records import BundleSlice, RuntimeName
from workers.errors import SegmentDamagedError
from workers.packing.layout import LINE_WORDS, MOST_WORDS
from workers.packing.verdicts import PACKED, UNTRIED, VERDICTS
from workers.segments.layout import (
    LARGEST_MODEL,
    MAX_HEADER,
    RUNTIMES,
    SegmentHeader,
    StoredCodes,
    StoredEntry,
    read_header,
)
from workers.segments.packs import PackFile

Numbers = NDArray[Any]
T = TypeVar("T")

_PAIR: Final = Struct(">QQ")


class Segment:
    """One open segment file. Immutable and safe from any thread.

    The mapping and the file descriptor live as long as the object, so whoever reads from it keeps it alive; the file
    itself may be deleted meanwhile. Rows are positions 0 to len - 1 in order of the keys' identities.

    Attributes:
        header: group, shard, shards and sizes.
        trained: float64, shape (models,): seconds since 1970 that training data reaches, NaN where unknown.
        slots: uint16, shape (models,): slot of each key, 0 for partial keys.
        packs: the packs, mapped and unmapped by their own object; without models where the segment has none.
    """

    def __init__(self, descriptor: int, header: SegmentHeader, store: ArtifactStore | None) -> None:
        weakref.finalize(self, os.close, descriptor)
        self.header = header
        self._descriptor = descriptor
        self._store = store
        self._index = memoryview(mmap.mmap(descriptor, header.index_end, access=mmap.ACCESS_READ))
        self._check_checksum()
        arrays = {name: self._array(name) for name in header.arrays if name not in ("packs", "stored")}
        if header.format == "1":
            arrays |= _without_packs(header.models)
        _check(arrays, header)
        # A memoryview answers one Python number a look-up several times faster than a numpy array does.
        self._high, self._low = arrays["identity_high"].data, arrays["identity_low"].data
        self._bounds, self._meta_bounds = arrays["frame_bounds"].data, arrays["meta_bounds"].data
        self._size, self._heap = arrays["size"].data, arrays["heap"].data
        self._version, self._runtime = arrays["version"].data, arrays["runtime"].data
        self._meta, self._digest = arrays["meta"].data, arrays["digest"]
        self._verdict = arrays["verdict"].data
        self.packs = PackFile(
            descriptor, header.index_end, arrays["pack_bounds"].data, arrays["pack_checksum"].data, header.group
        )
        self.trained: NDArray[np.float64] = arrays["trained"]
        self.slots: NDArray[np.uint16] = arrays["slot"]

    @classmethod
    def open(cls, path: Path, store: ArtifactStore | None = None) -> "Segment":
        """Open and check a segment file; `store` is where its large models lie, needed only to `read` those.

        Raises:
            SegmentDamagedError: if the file is not what a writer wrote.
            FileNotFoundError: if there is none.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            hold(descriptor)
            size = os.fstat(descriptor).st_size
            header = read_header(os.pread(descriptor, 8 + MAX_HEADER, 0), size)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, header, store)

    def __len__(self) -> int:
        return self.header.models

    @property
    def verdicts(self) -> Mapping[str, int]:
        """How many models are packed, and how many are not for each reason."""
        counts = np.bincount(np.asarray(self._verdict), minlength=len(VERDICTS)).tolist()
        return {verdict: count for verdict, count in zip(VERDICTS, counts, strict=True) if count}

    @property
    def kinds(self) -> Mapping[tuple[str, RuntimeName], int]:
        """How many models there are of each verdict and runtime that occur."""
        codes = np.asarray(self._verdict).astype(np.intp) * len(RUNTIMES) + np.asarray(self._runtime)
        found = zip(*(each.tolist() for each in np.unique(codes, return_counts=True)), strict=True)
        return {(VERDICTS[code // len(RUNTIMES)], RUNTIMES[code % len(RUNTIMES)]): count for code, count in found}

    @property
    def reaches_large(self) -> bool:
        """Whether large models can be read."""
        return self._store is not None

    @property
    def runtimes(self) -> frozenset[RuntimeName]:
        """The runtimes that the models which are not packed need."""
        codes = np.unique(np.asarray(self._runtime)[self.native_rows]).tolist()
        return frozenset(RUNTIMES[code] for code in codes)

    @property
    def native_rows(self) -> list[int]:
        """The rows whose models are not packed."""
        return np.flatnonzero(np.asarray(self._verdict) != VERDICTS.index(PACKED)).tolist()

    def find(self, identity: bytes) -> int:
        """Row of the model whose key has this identity (16 bytes), -1 if there is none."""
        high, low = _PAIR.unpack(identity)
        keys = self._high
        row = bisect_left(keys, high)
        while row < len(keys) and keys[row] == high:
            if self._low[row] == low:
                return row
            row += 1
        return -1

    def identity(self, row: int) -> bytes:
        """The identity of a row's key, 16 bytes."""
        return _PAIR.pack(self._high[row], self._low[row])

    def facts(self, row: int) -> tuple[str, int, str | None, StoredCodes]:
        """Of a row's model its key, version, trained_through and codes: what an answer from its pack needs.

        Raises:
            SegmentDamagedError: if the row cannot be read or names another key.
        """
        return self._read(row, self._facts)

    def entry(self, row: int) -> StoredEntry:
        """What is known of a row's model. Raises SegmentDamagedError."""
        return self._read(row, self._entry)

    def _facts(
        self, row: int, key: str, trained_through: object, _at: object, _of: object, _in: object, codes: object
    ) -> tuple[str, int, str | None, StoredCodes]:
        return key, self._version[row], _text(trained_through), _codes(codes)

    def _entry(
        self, row: int, key: str, through: object, at: object, classes: object, place: Any, codes: object = None
    ) -> StoredEntry:
        return StoredEntry(
            key=key,
            version=self._version[row],
            runtime=RUNTIMES[self._runtime[row]],
            digest=self._digest[row].tobytes().hex(),
            size=self._size[row],
            heap=self._heap[row],
            classes=tuple(map(_label, _listed(classes))),
            trained_through=_text(through),
            trained_at=_text(at),
            slot=int(self.slots[row]),
            place=None if place is None else _place(*place),
            verdict=VERDICTS[self._verdict[row]],
            codes=_codes(codes),
        )

    def _read(self, row: int, make: Callable[..., T]) -> T:
        """What is made of a row number and what the row's meta lists; it must name the row's own key."""
        try:
            meta = _listed(orjson.loads(self._meta[self._meta_bounds[row] : self._meta_bounds[row + 1]]))
            made = make(row, *meta)
            honest = key_id(meta[0]) == self.identity(row)
        except (TypeError, ValueError, AttributeError) as error:
            raise SegmentDamagedError(f"row {row} of a segment of {self.header.group!r} cannot be read") from error
        if not honest:
            raise SegmentDamagedError(f"row {row} of a segment of {self.header.group!r} names another key: {meta[0]!r}")
        return made

    def length(self, row: int) -> int:
        """Bytes of a row's frame, 0 for a packed or a large model."""
        length: int = self._bounds[row + 1] - self._bounds[row]
        return length

    def frame(self, row: int) -> bytes:
        """A row's zstd frame as it lies in the file, empty for a packed or a large model; its length is checked."""
        length = self.length(row)
        frame = os.pread(self._descriptor, length, self.header.stored_at + self._bounds[row])
        if len(frame) != length:
            raise SegmentDamagedError(f"a segment of {self.header.group!r} gave {len(frame)} of {length} bytes")
        return frame

    def read(self, row: int) -> bytes:
        """A row's artifact, its size and SHA-256 checked.

        Raises:
            SegmentDamagedError: if the bytes are not those that were registered.
        """
        entry = self.entry(row)
        try:
            return verified(self._raw(row, entry), entry.digest)
        except (ArtifactDamagedError, ArtifactMissingError) as error:
            raise SegmentDamagedError(f"version {entry.version} of {entry.key!r}: {error.detail}") from error

    def _raw(self, row: int, entry: StoredEntry) -> bytes:
        if entry.place is None:
            return decompress(self.frame(row), entry.size)
        if self._store is None:
            raise ArtifactMissingError("a large model was asked for without its artifact store")
        return read_slice(self._store, entry.place, entry.size)

    def _check_checksum(self) -> None:
        found = blake2b(self.header.unsigned.spelled, digest_size=16)
        found.update(self._index[len(self.header.spelled) :])
        if found.hexdigest() != self.header.checksum:
            raise SegmentDamagedError(f"the index of a segment of {self.header.group!r} does not have its checksum")

    def _array(self, name: str) -> Numbers:
        first = len(self.header.spelled)
        start, end = self.header.spans[name]
        array = np.frombuffer(self._index[first + start : first + end], dtype=self.header.arrays[name][1])
        return array.reshape(self.header.shapes[name])


def _place(bundle: object, offset: object, length: object) -> BundleSlice:
    return BundleSlice(str(bundle), _number(offset), _number(length))


# What stands in an answer, or is looked up in a dict, must have the type it was written with.
def _text(value: object) -> str | None:
    if value is not None and type(value) is not str:
        raise TypeError(f"no text: {value!r}")
    return value


def _label(value: Any) -> Any:
    if type(value) not in (str, int, float, bool):
        raise TypeError(f"no label: {value!r}")
    return value


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"no position: {value!r}")
    return value


def _listed(value: object) -> list[Any]:
    if type(value) is not list:
        raise TypeError(f"no list: {value!r}")
    return value


def _codes(codes: object = None) -> StoredCodes:
    if codes is None:  # format 1 has none
        return ()
    return tuple(
        (
            _number(position),
            tuple((None if value is None else _label(value), _number(code)) for value, code in _listed(known)),
        )
        for position, known in _listed(codes)
    )


def _without_packs(models: int) -> dict[str, Numbers]:
    """What format 1 lacks, for a segment in which nothing is packed."""
    return {
        "pack_bounds": np.zeros(models + 1, dtype=np.uint64),
        "pack_checksum": np.zeros(models, dtype=np.uint64),
        "verdict": np.full(models, VERDICTS.index(UNTRIED), dtype=np.uint8),
    }


def _check(arrays: dict[str, Numbers], header: SegmentHeader) -> None:
    """Refuse an index that would lead outside the file or to the wrong row, whatever its checksum says."""
    high, low = arrays["identity_high"], arrays["identity_low"]
    ascending = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
    sound = (
        bool(ascending.all())
        and _bounds_hold(arrays["frame_bounds"], header.stored_size)
        and _bounds_hold(arrays["meta_bounds"], header.meta_size)
        and bool((arrays["size"] <= LARGEST_MODEL).all())
        and bool((arrays["runtime"] < len(RUNTIMES)).all())
        and bool((arrays["version"] > 0).all())
        and bool((arrays["slot"] < SLOTS).all())
        and bool((arrays["verdict"] < len(VERDICTS)).all())
        and _packs_hold(arrays["pack_bounds"], arrays["verdict"], header.packs_size)
    )
    if not sound:
        raise SegmentDamagedError(f"the index of a segment of {header.group!r} contradicts itself")


def _bounds_hold(bounds: Numbers, size: int) -> bool:
    return bool(bounds[0] == 0) and bool(bounds[-1] == size) and bool((bounds[1:] >= bounds[:-1]).all())


def _packs_hold(bounds: Numbers, verdict: Numbers, size: int) -> bool:
    """Packs are whole cache lines and no longer than any may be, and exactly the packed models have one."""
    lengths = bounds[1:] - bounds[:-1]
    whole = not (lengths % LINE_WORDS).any() and not (lengths > MOST_WORDS).any()
    packed = verdict == VERDICTS.index(PACKED)
    return _bounds_hold(bounds, size) and whole and bool(((lengths > 0) == packed).all())
