"""How what scores rows is compiled: once on a machine, by one process while others wait for it.

What is compiled is cached beside the module it stands in, or where NUMBA_CACHE_DIR says; where neither can be written
it is compiled at each start. Once it is cached nobody waits for anybody: a proof's child, which yields to whoever
serves, would else hold up a server that starts beside it.
"""

import fcntl
import hashlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numba
from numba import config, njit

log = logging.getLogger("manymodels.workers")

LOCK: Final = "manymodels-kernel.lock"


def compiled(signature: str) -> Callable[[Any], Any]:
    """Compile with a cache where one can be written."""

    def compile_(function: Any) -> Any:
        try:
            with _one_at_a_time(_mark_of(function, signature)):
                return njit(signature, nogil=True, cache=True, error_model="numpy")(function)
        except RuntimeError as error:  # numba's word for a folder that it cannot write
            log.warning("the kernel cannot be cached (set NUMBA_CACHE_DIR to a folder it may write): %s", error)
            return njit(signature, nogil=True, error_model="numpy")(function)

    return compile_


def cache_folder() -> Path:
    """Where the lock lies, and what tells that something is cached."""
    return Path(config.CACHE_DIR or Path(__file__).with_name("__pycache__"))


@contextmanager
def _one_at_a_time(mark: str) -> Iterator[None]:
    """Hold a lock beside the cache: of processes that start together one compiles, the others take what it cached.

    `mark` names an empty file that is there once that is done; with it there is nothing to wait for.
    """
    folder = cache_folder()
    done = folder / mark
    if done.exists():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a", encoding="ascii")
    except OSError:  # no cache either
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        with suppress(OSError):  # a disk that is full: whoever comes next waits as this one did
            done.touch()


def _mark_of(function: Any, signature: str) -> str:
    """The name of a mark: another one for another source file, as numba tells them apart, or another compiler."""
    source = Path(function.__code__.co_filename).stat()
    state = (signature, source.st_mtime_ns, source.st_size, numba.__version__, sys.version, config.CPU_NAME)
    digest = hashlib.sha256(repr(state).encode()).hexdigest()[:12]
    return f"{function.__module__}.{function.__qualname__}-{digest}.compiled"
