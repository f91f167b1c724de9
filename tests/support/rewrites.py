"""Segments as a writer would write them that lies on purpose: something is changed, every checksum is true."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from random import Random
from typing import Final

import numpy as np
import orjson

from tests.support.mutations import as_bytes, mutated, near
from workers.packing.wire import checksum_of
from workers.segments.layout import MAX_HEADER, SegmentHeader, read_header

METAS: Final = (
    None, 7, [], [None] * 5, ["k"], ["k", 1, 2, 3, 4, 5], ["k", {}, None, [], None], ["k", None, None, [[]], None],
    ["k", None, None, "ab", None], ["k", None, None, [], ["a", -1, -1]], ["k", None, None, [], None, {}],
    ["k", None, None, [], None, [[9, [["a", 1]]]]], ["k", None, None, [], None, [[-1, [["a", 1]]]]],
    ["k", None, None, [], None, [[2, [[[], 1]]]]], ["k", None, None, [], None, [[2, [["a", 1e300]]]]],
    ["k", None, None, [], None, [[2, [["a", "9" * 400]]]]], ["k", None, None, [], None, [[1e300, []]]],
    ["k", None, None, [], None, [], []], ["k", None, None, [None], None, []],
)  # fmt: skip


class Parts:
    """A segment file in its parts, to be changed and put together again."""

    def __init__(self, data: bytes) -> None:
        self.header = read_header(data[: 8 + MAX_HEADER], len(data))
        self.arrays: dict[str, bytearray] = {}
        first = len(self.header.spelled)
        for name, (start, end) in self.header.spans.items():
            self.arrays[name] = bytearray(data[first + start : first + end])

    def numbers(self, name: str) -> "np.ndarray":
        """An array of the index, to be written to."""
        return np.frombuffer(self.arrays[name], dtype=self.header.arrays[name][1])

    def pack(self, row: int) -> tuple[int, int]:
        """First byte and end of a row's pack."""
        bounds = self.numbers("pack_bounds")
        return 8 * int(bounds[row]), 8 * int(bounds[row + 1])

    def put_pack(self, row: int, pack: bytes) -> None:
        """Put a pack in a row's place, whatever its length, with a true checksum."""
        start, end = self.pack(row)
        self.arrays["packs"][start:end] = pack
        bounds = self.numbers("pack_bounds")
        bounds[row + 1 :] += np.uint64((len(pack) - (end - start)) % (1 << 64) // 8 % (1 << 61))
        if pack:
            self.numbers("pack_checksum")[row] = checksum_of(pack)

    def put_meta(self, row: int, meta: bytes) -> None:
        """Put what is said of a row's model."""
        bounds = self.numbers("meta_bounds")
        start, end = int(bounds[row]), int(bounds[row + 1])
        self.arrays["meta"][start:end] = meta
        bounds[row + 1 :] = (bounds[row + 1 :].astype(np.int64) + len(meta) - (end - start)).astype(np.uint64)

    def signed(self) -> bytes:
        """The file, with sizes as they are now and a true checksum."""
        header = replace(
            self.header,
            meta_size=len(self.arrays["meta"]),
            packs_size=len(self.arrays["packs"]) // 8,
            stored_size=len(self.arrays["stored"]),
        )
        self.arrays["padding"] = bytearray(header.shapes["padding"][0])
        return joined(header, self.arrays)


def joined(header: SegmentHeader, arrays: dict[str, bytearray]) -> bytes:
    """A file of these arrays under a true checksum."""
    index = b"".join(arrays[name] for name in header.arrays if name not in ("packs", "stored"))
    checksum = blake2b(header.unsigned.spelled + index, digest_size=16).hexdigest()
    return replace(header, checksum=checksum).spelled + index + arrays["packs"] + arrays["stored"]


def rewritten(random: Random, data: bytes, width: int) -> bytes:
    """A segment in which one or two things lie."""
    parts = Parts(data)
    changes: tuple[Callable[[Random, Parts, int], None], ...] = (
        _packs,
        _packs,
        _packs,
        _index,
        _index,
        _swapped,
        _meta,
    )
    for _ in range(random.choice((1, 1, 2))):
        random.choice(changes)(random, parts, width)
    return parts.signed()


def _packs(random: Random, parts: Parts, width: int) -> None:
    """A pack that means harm, or another model's."""
    rows = _packed(parts)
    if not rows:  # an earlier change lost them
        return
    row, other = random.choice(rows), random.choice(rows)
    start, end = parts.pack(row)
    words = np.frombuffer(bytes(parts.arrays["packs"][start:end]), dtype=np.int64).tolist()
    if random.random() < 0.1:
        start, end = parts.pack(other)
        parts.put_pack(row, bytes(parts.arrays["packs"][start:end]))
    else:
        parts.put_pack(row, as_bytes(mutated(random, words, width)))


def _packed(parts: Parts) -> list[int]:
    """Rows whose pack lies where packs lie."""
    bounds = parts.numbers("pack_bounds")
    within = (bounds[1:] > bounds[:-1]) & (bounds[1:] <= len(parts.arrays["packs"]) // 8)
    return np.flatnonzero(within).tolist()


def _index(random: Random, parts: Parts, _width: int) -> None:
    """One number of the index."""
    name = random.choice([name for name in parts.arrays if name not in ("packs", "stored", "padding", "meta")])
    array = parts.numbers(name).reshape(-1)
    at = random.randrange(len(array))
    limit = len(parts.arrays["packs"]) // 8 if name == "pack_bounds" else len(parts.arrays["stored"])
    if array.dtype.kind == "f":
        array[at] = random.choice((float("nan"), float("inf"), -1.0, 1e300))
    else:
        wide = 8 * array.dtype.itemsize
        value = near(random, int(array[at]), limit) % (1 << wide)
        array[at] = value - (1 << wide) if array.dtype.kind == "i" and value >> (wide - 1) else value


def _swapped(random: Random, parts: Parts, _width: int) -> None:
    """Two arrays of one size in each other's place, or two models' numbers in one array."""
    names = [name for name in parts.arrays if name not in ("packs", "stored", "padding")]
    one = random.choice(names)
    if random.random() < 0.5:
        other = random.choice([name for name in names if len(parts.arrays[name]) == len(parts.arrays[one])])
        parts.arrays[one], parts.arrays[other] = parts.arrays[other], parts.arrays[one]
    elif one != "meta":
        array = parts.numbers(one)
        i, k = random.randrange(len(array)), random.randrange(len(array))
        array[[i, k]] = array[[k, i]]


def _meta(random: Random, parts: Parts, _width: int) -> None:
    """What is said of a model, with its own key in it, so that the rest is looked at."""
    row = random.randrange(parts.header.models)
    bounds = parts.numbers("meta_bounds")
    said = bytes(parts.arrays["meta"][int(bounds[row]) : int(bounds[row + 1])])
    meta = random.choice(METAS)
    try:
        honest = orjson.loads(said)
    except orjson.JSONDecodeError:
        honest = []
    if isinstance(meta, list) and meta and meta[0] == "k" and isinstance(honest, list) and honest:
        meta = [honest[0], *meta[1:]]
    parts.put_meta(row, orjson.dumps(meta))
