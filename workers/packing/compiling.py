"""How what scores rows is compiled: once on a machine, by one process while others wait for it.

What is compiled is cached beside the module it stands in, or where NUMBA_CACHE_DIR says; where neither can be written
it is compiled at each start.
"""

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba import config, njit

log = logging.getLogger("manymodels.workers")


def compiled(signature: str) -> Callable[[Any], Any]:
    """Compile with a cache where one can be written."""

    def compile_(function: Any) -> Any:
        try:
            with _one_at_a_time():
                return njit(signature, nogil=True, cache=True, error_model="numpy")(function)
        except RuntimeError as error:  # numba's word for a folder that it cannot write
            log.warning("the kernel cannot be cached (set NUMBA_CACHE_DIR to a folder it may write): %s", error)
            return njit(signature, nogil=True, error_model="numpy")(function)

    return compile_


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold a lock beside the cache: of processes that start together one compiles, the others take what it cached."""
    folder = Path(config.CACHE_DIR or Path(__file__).with_name("__pycache__"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "manymodels-kernel.lock").open("a", encoding="ascii")
    except OSError:  # no cache either
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
