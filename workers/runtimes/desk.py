"""Desks: where one row is laid out for a native call that takes addresses."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Final

import numpy as np

from workers.features import Matrix
from workers.packing.layout import MOST_RAW


class Desk:
    """Buffers for one prediction of one row. Used by one thread at a time."""

    __slots__ = ("_scratch", "out", "out_address", "pack", "row", "row_address", "scratch_address")

    def __init__(self, columns: int, outputs: int) -> None:
        self.row: Matrix = np.empty((1, columns))
        self.out: Matrix = np.empty((1, outputs))
        self.row_address: int = self.row.ctypes.data
        self.out_address: int = self.out.ctypes.data
        self._scratch: Matrix = np.empty(MOST_RAW)
        self.scratch_address: int = self._scratch.ctypes.data
        self.pack: Callable[..., None] = partial(Struct(f"{columns}d").pack_into, self.row.data, 0)


_IDLE: Final[defaultdict[tuple[int, int], list[Desk]]] = defaultdict(list)


class Desks:
    """The desks of one size: few and shared by all models, so that they stay in the processor's caches."""

    __slots__ = ("_idle", "_size")

    def __init__(self, columns: int, outputs: int) -> None:
        self._size = columns, outputs
        self._idle = _IDLE[self._size]

    def take(self) -> Desk:
        """A desk that nobody else has. Pop and append are atomic, so threads never share one."""
        try:
            return self._idle.pop()
        except IndexError:  # other threads are at all of them
            return Desk(*self._size)

    def give_back(self, desk: Desk) -> None:
        """Leave a desk to others."""
        self._idle.append(desk)
