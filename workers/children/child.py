"""The process in which a stranger's bytes are parsed or run: it may crash, hang or eat memory, and only it is lost.

Started fresh (never forked) with one thread for every native library, limits on memory and files, its output thrown
away, and a promise to die with its parent, before which the kernel ends it where memory is short. It imports nothing
heavy before those stand. It reads jobs from a socket, a job being a function's dotted name, its context and its
payload, and sends each answer as soon as it has it, so that the parent knows which item was its last; a job of many
small items notes in a page of shared memory which one it is at (`note`), and sends many answers at once.
"""

import ctypes
import gc
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from mmap import mmap
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

READY: Final = b"ready"
END: Final = b""  # after the last answer of a job; an answer is never empty
OPEN_FILES: Final = 256
LIBRARY_BYTES: Final = 2 << 30  # of address space, for what is imported once the limits stand

PROGRESS_BYTES: Final = 8

_PR_SET_PDEATHSIG: Final = 1

_progress: list[memoryview] = []  # the page, once it is mapped


def resolve(name: str) -> Callable[..., Any]:
    """The function of a dotted name, `package.module:function`."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def note(item: int) -> None:
    """Say which item of a job is under way, counted from 0; costs no call into the kernel."""
    for page in _progress:
        page[0] = item


def mapped() -> int:
    """Bytes of this process's address space, which is what its limit of memory is on."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextmanager
def importing() -> Iterator[None]:
    """In a job: what is imported meanwhile counts as the libraries', not as memory that the job allocated.

    What libraries make at import is never garbage: looking through it takes a fifth of the time, and once it stands
    aside collections between models are quick. Outside of a child nothing happens.
    """
    if not _progress:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = mapped()
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
        if soft != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_AS, (min(soft + mapped() - before, hard), hard))


def serve(connection: Connection) -> None:
    """Do jobs until the parent hangs up."""
    with suppress(EOFError, OSError):
        while True:
            name, context = pickle.loads(connection.recv_bytes())  # noqa: S301 - written by our own parent process
            answers: Iterator[bytes] = resolve(name)(context, connection.recv_bytes())
            for answer in answers:
                connection.send_bytes(answer)
            connection.send_bytes(END)


def main() -> None:
    """Run as `python -m workers.children.child <socket> <page> <parent pid> <memory bytes> <prepare function>`."""
    descriptor, page, parent, memory = (int(argument) for argument in sys.argv[1:5])
    _die_with(parent)
    _go_first()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _silence()
    # By its own name: run as a program this module is another one than jobs import.
    this = import_module("workers.children.child")
    this.share(page)
    with this.importing():
        resolve(sys.argv[5])()
    _limit(memory)
    connection = Connection(descriptor)
    connection.send_bytes(READY)
    serve(connection)


def share(page: int) -> None:
    """Map the page in which progress is noted, which the parent made."""
    _progress.append(memoryview(mmap(page, PROGRESS_BYTES)).cast("q"))
    os.close(page)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)


def _go_first() -> None:
    """Where this machine's memory, or a container's, is used up the kernel ends this process before its parent."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _silence() -> None:
    """Throw away whatever native libraries print: a stranger's model must not write our log."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


def _limit(memory: int) -> None:
    """Allow `memory` bytes beyond what the libraries took; no core files, no writing of files, few descriptors."""
    most = mapped() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most + LIBRARY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))


if __name__ == "__main__":
    main()
