"""Telling glibc's malloc to give memory back, because a cache budget means nothing if evicted models stay resident.

By default each thread that loads models has an arena of its own, and a model freed from the middle of one leaves a
hole that only this arena may fill. One arena for all, trimmed when its end is free, keeps resident memory near what
is allocated.
"""

import ctypes
from functools import cache
from typing import Final

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_ARENAS: Final = 1
_TRIM_BYTES: Final = 1 << 20
_MMAP_BYTES: Final = 256 << 10


@cache
def limit_arenas() -> bool:
    """Set malloc's limits once for this process; answers whether this C library knows them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(
        [
            mallopt(_M_ARENA_MAX, _ARENAS) == 1,
            mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES) == 1,
            mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) == 1,
        ]
    )
