"""On what a run was made: processor, cores, memory, versions; figures mean nothing without them."""

import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

# The load runs on the first core and every measured server on the last, so neither takes time from the other.
CORES: Final = sorted(os.sched_getaffinity(0))
LOAD_CORE: Final = CORES[0]
SERVER_CORE: Final = CORES[-1]

QUIET: Final = 1.0  # load average up to which a run is taken for undisturbed
LIBRARIES: Final = (
    "uvicorn",
    "uvloop",
    "httptools",
    "starlette",
    "fastapi",
    "orjson",
    "numpy",
    "lightgbm",
    "onnxruntime",
    "pyarrow",
    "sqlalchemy",
    "prometheus-client",
)


@cache
def machine() -> list[str]:
    """The machine and the library versions, one fact a line; as they were when first asked."""
    busy = os.getloadavg()[0]
    return [
        f"processor: {_from('/proc/cpuinfo', 'model name')}, {len(CORES)} cores",
        f"memory: {_memory_gib():.0f} GiB; kernel {platform.release()}",
        f"Python {platform.python_version()}; " + ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        f"load average at the start: {busy:.2f}{', so other work takes part in every figure' if busy > QUIET else ''}",
    ]


class Theft:
    """How much of its processors' time this machine did not get from the one that it runs on, since this was made."""

    def __init__(self) -> None:
        self._begun = _ticks()

    @property
    def share(self) -> float:
        """Of all processors' time."""
        stolen, whole = (now - then for now, then in zip(_ticks(), self._begun, strict=True))
        return stolen / whole if whole else 0.0


def _ticks() -> tuple[int, int]:
    """Of /proc/stat, all processors together: ticks that were stolen, and all."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    return ticks[7], sum(ticks)


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _from(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")
