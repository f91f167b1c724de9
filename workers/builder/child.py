"""The process in which a stranger's bytes are parsed: it may crash, hang or eat memory, and only it is lost.

Started fresh (never forked) with one thread for every native library, limits on memory and files, its output thrown
away, and a promise to die with the builder. It imports nothing heavy before those stand. It reads jobs from a socket,
a job being a function's dotted name, its context and its payload, and sends each answer as soon as it has it, so that
the builder knows which item was its last.
"""

import ctypes
import gc
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

READY: Final = b"ready"
END: Final = b""  # after the last answer of a job; an answer is never empty
OPEN_FILES: Final = 256

_PR_SET_PDEATHSIG: Final = 1


def resolve(name: str) -> Callable[..., Any]:
    """The function of a dotted name, `package.module:function`."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def serve(connection: Connection) -> None:
    """Do jobs until the builder hangs up."""
    with suppress(EOFError, OSError):
        while True:
            name, context = pickle.loads(connection.recv_bytes())  # noqa: S301 - written by our own parent process
            answers: Iterator[bytes] = resolve(name)(context, connection.recv_bytes())
            for answer in answers:
                connection.send_bytes(answer)
            connection.send_bytes(END)


def main() -> None:
    """Run as `python -m workers.builder.child <socket> <parent pid> <memory bytes> <prepare function>`."""
    descriptor, parent, memory = (int(argument) for argument in sys.argv[1:4])
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _silence()
    resolve(sys.argv[4])()
    gc.collect()
    gc.freeze()  # what the libraries made at import is never garbage; collections between models stay quick
    _limit(memory)
    connection = Connection(descriptor)
    connection.send_bytes(READY)
    serve(connection)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)


def _silence() -> None:
    """Throw away whatever native libraries print: a stranger's model must not write our log."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


def _limit(memory: int) -> None:
    """Allow `memory` bytes beyond what the libraries took; no core files, no writing of files, few descriptors."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory, mapped + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))


if __name__ == "__main__":
    main()
