"""Spoils packs at random and runs the kernel on those that are still sound, each buffer ending where memory ends.

Run as a process of its own by a test, which the kernel would take with it else: `python -m tests.support.pack_fuzzing
SEED SECONDS`, with packs pickled on the standard input as (words, inputs, columns, classes). Prints how many were
tried and sound.
"""

import pickle
import sys
import time

import numpy as np

from tests.support.guarded import Guarded
from workers.packing.checks import SOUND, check
from workers.packing.kernel import score_row
from workers.packing.layout import HEAD_WORDS, MOST_RAW

_CELLS = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0, 2.5, 1e300, 31.0, 4e9])


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
    rooms = {len(words): Guarded(words.nbytes) for words, *_ in packs}
    row_room, out_room = Guarded(4096), Guarded(4096)
    scratch = Guarded(8 * MOST_RAW).place(bytes(8 * MOST_RAW), last=True)
    tried = sound = 0
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        words, inputs, columns, classes = packs[random.integers(0, len(packs))]
        made = spoiled(words, random)
        address = rooms[len(words)].place(made.tobytes(), last=True)
        tried += 1
        if check(address, len(made), inputs, columns, classes) != SOUND:
            continue
        sound += 1
        for _ in range(3):
            row = row_room.place(random.choice(_CELLS, inputs).tobytes(), last=True)
            score_row(address, row, out_room.place(bytes(8 * columns), last=True), scratch)
    print(tried, sound)


main()
