"""The packs of one segment file: mapped while they are used, checked when they are first touched.

The mapping is shared by all processes that serve the segment; what is not touched costs nothing. Unmapping takes the
address away from new calls and leaves the pages to whoever still has the mapping.
"""

import ctypes
import mmap
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from workers.errors import ModelLoadError, SegmentDamagedError
from workers.packing.layout import Words

_mincore: Final = ctypes.PyDLL(None).mincore  # keeps the GIL: it waits for nothing
_mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


class PackFile:
    """Packs by row. `map` and `unmap` are called under their owner's lock; all else is safe from any thread.

    Attributes:
        size: bytes of all packs.
        largest: bytes of the largest.
        base: address at which they are mapped, 0 while they are not.
        mapping: what keeps the address good; None while unmapped.
        used: when they were last asked for, in their owner's count.
        checked: a byte a row: whether its pack was found sound in this process.
    """

    __slots__ = (
        "__weakref__",
        "_bounds",
        "_checksums",
        "_descriptor",
        "_group",
        "_start",
        "base",
        "checked",
        "largest",
        "mapping",
        "size",
        "used",
    )

    def __init__(
        self, descriptor: int, start: int, bounds: Sequence[int], checksums: Sequence[int], group: str
    ) -> None:
        """`start` is where in the file the packs begin; `bounds` are their words as the index has them, checked."""
        self._descriptor = descriptor
        self._start = start
        self._bounds = bounds
        self._checksums = checksums
        self._group = group
        self.size = 8 * bounds[len(bounds) - 1]
        self.largest = 8 * int(np.diff(bounds).max(initial=0))
        self.base = 0
        self.mapping: Any = None
        self.used = 0
        self.checked = bytearray(len(checksums))

    def offset(self, row: int) -> int:
        """Bytes from `base` to a row's pack; -1 if the row is not packed."""
        start = self._bounds[row]
        return 8 * start if self._bounds[row + 1] > start else -1

    def length(self, row: int) -> int:
        """Bytes of a row's pack, 0 if it is not packed."""
        return 8 * (self._bounds[row + 1] - self._bounds[row])

    def checksum(self, row: int) -> int:
        """XXH64 that a row's pack should have."""
        return self._checksums[row]

    def read(self, row: int) -> bytes:
        """A row's pack as it lies in the file, unchecked but for its length. Raises SegmentDamagedError."""
        length = self.length(row)
        try:
            pack = os.pread(self._descriptor, length, self._start + self.offset(row))
        except OSError as error:
            raise SegmentDamagedError(f"a segment of {self._group!r} cannot be read: {error}") from error
        if len(pack) != length:
            raise SegmentDamagedError(f"a segment of {self._group!r} gave {len(pack)} of {length} bytes")
        return pack

    def map(self) -> None:
        """Map all packs.

        Raises:
            SegmentDamagedError: if the file has been cut short since it was opened.
            ModelLoadError: if this process can map no more for now.
        """
        if os.fstat(self._descriptor).st_size < self._start + self.size:
            raise SegmentDamagedError(f"a segment of {self._group!r} has been cut short")
        try:
            mapping = mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ, offset=self._start)
        except OSError as error:  # no descriptor, memory or mapping left: nothing is wrong with the file
            raise ModelLoadError(f"the packs of a segment of {self._group!r} cannot be mapped: {error}") from error
        words: Words = np.frombuffer(mapping, dtype=np.int64)
        self.mapping = words  # holds the mapping, which closes itself with its last reader
        self.base = words.ctypes.data

    def unmap(self) -> Any:
        """Take the address away; answers what must be let go of once nobody uses it any more."""
        mapping, self.mapping, self.base = self.mapping, None, 0
        return mapping


def resident(address: int, length: int) -> bool:
    """Whether all pages of a mapped range are in memory, so that reading them waits for no disk (mincore, Linux)."""
    first = address & -mmap.PAGESIZE
    pages = -(-(address + length - first) // mmap.PAGESIZE)
    vector = (ctypes.c_char * pages)()
    if _mincore(first, pages * mmap.PAGESIZE, vector):
        return False
    return b"\0" not in vector.raw
