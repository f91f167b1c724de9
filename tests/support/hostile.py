"""A process of its own for packs that may kill it: `python -m tests.support.hostile WHAT FOLDER SEED CASES`.

Before each case its number goes to `FOLDER/case`, so that whoever finds this process dead knows what killed it. What
became of the cases goes to stdout as JSON.
"""

import ctypes
import mmap
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import orjson

from tests.support.guarded import Guarded
from tests.support.mutations import as_bytes, made_up, mutated
from tests.support.readings import read_all
from tests.support.rewrites import rewritten
from workers.errors import SegmentDamagedError
from workers.packing.checks import SOUND, check
from workers.packing.kernel import score_row, score_rows
from workers.packing.layout import GOOD, MOST_RAW

UNTOUCHED: Final = b"\xad\xde\x00\x00\xef\xbe\xf8\x7f"  # a NaN that no arithmetic makes
_CELLS: Final = (
    0.0,
    -0.0,
    1.0,
    2.5,
    7.0,
    31.0,
    32.0,
    69.0,
    -1.0,
    1e300,
    2147483647.0,
    *map(float, ("nan", "inf", "-inf")),
)


class Desk:
    """Guarded memory for a pack, a row, its scores and the kernel's scratch."""

    def __init__(self) -> None:
        self.pack, self.row, self.out = Guarded(1 << 20), Guarded(4096), Guarded(4096)
        self.scratch = Guarded(8 * MOST_RAW)

    def run(self, random: Random, words: bytes, width: int, columns: int, groups: int) -> str:
        """Check a pack, and score rows with it if it is sound; answers what became of it."""
        last = random.random() < 0.6
        pack = self.pack.place(words, last=last)
        if check(pack, len(words) // 8, width, columns, groups) != SOUND:
            return "refused"
        scratch = self.scratch.place(UNTOUCHED * MOST_RAW, last=last)
        for turn in range(6):
            cells = np.array([random.choice(_CELLS) for _ in range(width)])
            row = self.row.place(cells.tobytes(), last=turn % 2 == 0)
            out = self.out.place(UNTOUCHED * columns, last=turn % 2 == 0)
            states = np.zeros(1, dtype=np.int8)
            addresses = [np.array([address]) for address in (pack, row, out)]
            state = score_row(pack, row, out, scratch) if turn else score_rows(*addresses, states, scratch)
            if state == GOOD and UNTOUCHED in ctypes.string_at(out, 8 * columns):
                return "unwritten"
        return "sound"


def packs(folder: Path) -> Callable[[Random], str]:
    """Cases of single packs: real ones that were changed, and made up ones."""
    given = pickle.loads((folder / "packs").read_bytes())
    desk = Desk()

    def run(random: Random) -> str:
        width, columns, groups, words = random.choice(given)
        making = random.random() < 0.5
        case = made_up(random, width, columns, groups) if making else mutated(random, words, width)
        if making and random.random() < 0.5:
            case = mutated(random, case, width)
        return desk.run(random, as_bytes(case), width, columns, groups)

    return run


def segments(folder: Path) -> Callable[[Random], str]:
    """Cases of whole segments whose checksums are all true."""
    given = pickle.loads((folder / "segments").read_bytes())
    path = folder / "hostile"

    def run(random: Random) -> str:
        signature, data = random.choice(given)
        path.unlink(missing_ok=True)
        path.write_bytes(rewritten(random, data, len(signature.inputs)))
        try:
            found = read_all(path, signature)
        except SegmentDamagedError:
            return "refused"
        return "damaged" if None in found.values() else "answered"

    return run


@contextmanager
def noted(folder: Path) -> Iterator[Callable[[int], None]]:
    """Where the number of the case goes: memory shared with the file, because a killed process flushes nothing."""
    (folder / "case").write_bytes(bytes(8))
    with (folder / "case").open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:

        def note(number: int) -> None:
            shared[:] = number.to_bytes(8, "little")

        yield note


def main(what: str, folder: Path, seed: str, cases: int) -> dict[str, Any]:
    """Run the cases; those that raised anything are told with their number."""
    run = {"packs": packs, "segments": segments}[what](folder)
    became: Counter[str] = Counter()
    failed = []
    with noted(folder) as note:
        for number in range(cases):
            note(number)
            try:
                said = run(Random(f"{seed}/{number}"))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                said = f"{type(error).__name__}: {error}"
            became[said] += 1
            if said not in ("refused", "damaged", "answered", "sound"):
                failed.append([number, said])
    return {"became": dict(became), "failed": failed[:20]}


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))).decode())
