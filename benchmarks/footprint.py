"""What a serving process has in memory and a home on disk, as the kernel counts it.

Proportional set size is the honest figure for mapped files: a page that two processes map counts half in each, so
sums over processes count every page once.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

KIBIBYTE: Final = 1024


@dataclass(frozen=True)
class Footprint:
    """Memory of one or more processes, bytes.

    Attributes:
        resident, proportional: with mapped files.
        anonymous: the part that no file backs, which the kernel cannot drop.
    """

    resident: int
    proportional: int
    anonymous: int

    @classmethod
    def of(cls, *pids: int) -> Self:
        """Of these processes together."""
        found = [_rollup(pid) for pid in pids]
        return cls(*(sum(values[name] for values in found) for name in ("Rss", "Pss", "Anonymous")))


def disk_bytes(folder: Path) -> int:
    """Bytes that all files of a folder take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def forget_files(folder: Path) -> None:
    """Have the kernel drop a folder's files from its page cache, as after a restart of the machine."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(value.split()[0]) * KIBIBYTE for name, _, value in (line.partition(":") for line in lines)}
