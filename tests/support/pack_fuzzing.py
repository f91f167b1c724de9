"""Spoils packs at random and runs the kernel on those that are still sound, each buffer ending where memory ends.

Run as a script by a test, because the kernel would take the process with it: `python pack_fuzzing.py SEED SECONDS`,
with packs pickled on the standard input as (words, inputs, columns, classes). Prints how many were tried and sound.
"""

import ctypes
import mmap
import pickle
import sys
import time

import numpy as np

from workers.packing.checks import SOUND, check
from workers.packing.kernel import score_row
from workers.packing.layout import HEAD_WORDS, MOST_RAW

PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)
_CELLS = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0, 2.5, 1e300, 31.0, 4e9])


class Fenced:
    """Room for words that ends at a page nobody may touch, and begins behind one."""

    def __init__(self, words: int) -> None:
        pages = -(-8 * words // PAGE)
        self._map = mmap.mmap(-1, (pages + 2) * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for fence in (start, start + (pages + 1) * PAGE):
            if _LIBC.mprotect(ctypes.c_void_p(fence), PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.end = start + (pages + 1) * PAGE

    def put(self, words: np.ndarray) -> int:
        """Copy words to the end of the room; answers their address."""
        address = self.end - words.nbytes
        ctypes.memmove(address, words.ctypes.data, words.nbytes)
        return address


def spoiled(words: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A copy with some bits or words changed, the size aside, mostly where structure is."""
    made = words.copy()
    for _ in range(random.integers(1, 4)):
        place = int(random.integers(1, HEAD_WORDS if random.random() < 0.4 else len(made)))
        match int(random.integers(0, 5)):
            case 0:
                made[place] = random.integers(-(2**63), 2**63 - 1)
            case 1:
                made[place] = random.integers(-3, 300)
            case 2:
                made[place] = made[random.integers(1, len(made))]
            case 3:
                made[place] += random.integers(-2, 3)
            case _:
                made[place] ^= np.int64(1) << np.int64(random.integers(0, 63))
    return made


def main() -> None:
    random = np.random.default_rng(int(sys.argv[1]))
    packs = pickle.load(sys.stdin.buffer)
    rooms = {len(words): Fenced(len(words)) for words, *_ in packs}
    row_room, out_room, scratch = Fenced(PAGE), Fenced(PAGE), Fenced(MOST_RAW)
    room = scratch.put(np.zeros(MOST_RAW))
    tried = sound = 0
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        words, inputs, columns, classes = packs[random.integers(0, len(packs))]
        made = spoiled(words, random)
        address = rooms[len(words)].put(made)
        tried += 1
        if check(address, len(made), inputs, columns, classes) != SOUND:
            continue
        sound += 1
        for _ in range(3):
            row = row_room.put(random.choice(_CELLS, inputs))
            score_row(address, row, out_room.put(np.zeros(columns)), room)
    print(tried, sound)


main()
