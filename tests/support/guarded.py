"""Memory between two pages that nobody may touch: whoever reads or writes beside it dies at once."""

import ctypes
import mmap
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_FORBIDDEN: Final = 0


class Guarded:
    """Room for up to `size` bytes. Lives as long as the process, because an address may be held anywhere."""

    def __init__(self, size: int) -> None:
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        start = _LIBC.mmap(None, self.size + 2 * mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        self._start = start + mmap.PAGESIZE
        for page in (start, self._start + self.size):
            if _LIBC.mprotect(page, mmap.PAGESIZE, _FORBIDDEN):
                raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, data: bytes, *, last: bool) -> int:
        """Copy bytes to the end of the room, right before the forbidden page, or to its start; answers where."""
        assert len(data) <= self.size
        address = self._start + self.size - len(data) if last else self._start
        ctypes.memmove(address, data, len(data))
        return address
