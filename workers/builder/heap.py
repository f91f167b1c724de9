"""How much memory a loaded model holds, measured rather than guessed, because caches are budgeted in these bytes.

glibc says what malloc has handed out; Python's own small objects lie in arenas that malloc does not see and are
counted by blocks.
"""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from resource import getpagesize
from typing import Final

BLOCK_BYTES: Final = 64  # a typical small Python object
LEAST: Final = 1024


class _MallInfo2(ctypes.Structure):
    """glibc's `struct mallinfo2` (2.33 and later)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _native_reader() -> Callable[[], int]:
    """Bytes handed out by malloc; where glibc cannot say, resident bytes of the process."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return lambda: int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
    mallinfo2.restype = _MallInfo2

    def read() -> int:
        info = mallinfo2()
        return int(info.uordblks) + int(info.hblkhd)  # small and large (mapped) allocations

    return read


_native_bytes = _native_reader()


def allocated(*, in_python: bool = True) -> int:
    """Bytes this process holds now; only differences mean anything.

    Without `in_python` only what malloc handed out: counting Python's blocks walks all of its memory, which takes
    longer than loading a small model of a library that keeps nothing there.
    """
    native = _native_bytes()
    return native + sys.getallocatedblocks() * BLOCK_BYTES if in_python else native


def held_since(before: int, *, in_python: bool = True) -> int:
    """Bytes taken since an `allocated` reading, at least 1 KB."""
    return max(allocated(in_python=in_python) - before, LEAST)
