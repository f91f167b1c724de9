"""Child processes that can be lost, and a pool of them, so that no artifact can take the builder with it.

A child is started fresh, warmed once (imports take a second) and used for many jobs. One that crashes or misses a
deadline is killed and replaced; whoever ran the job learns after which answer that happened. The pool decides under a
lock and talks to children outside it; any thread may run jobs.
"""

import os
import pickle
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from mmap import mmap
from multiprocessing.connection import Connection
from typing import Final

from workers.children.child import END, PROGRESS_BYTES, READY

START_SECONDS: Final = 120.0
LOOKS: Final = 4  # at a child's progress, before it is late
MOST_JOBS: Final = 500  # then a child is retired: what libraries leak must not add up to a refusal of good models

_COMMAND: Final = (sys.executable, "-P", "-m", "workers.children.child")

# One thread everywhere: a proof shares the machine with serving, and OpenMP's pools cost more than small models do.
_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "OMP_THREAD_LIMIT": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}


class ChildDiedError(Exception):
    """A child ended in the middle of a job, or was killed because no answer came in time (`hung`)."""

    def __init__(self, reason: str, *, hung: bool) -> None:
        super().__init__(reason)
        self.hung = hung


class Child:
    """One child process, for one thread at a time. `jobs` counts those it was given."""

    def __init__(self, prepare: str, memory_bytes: int, niceness: int) -> None:
        ours, theirs = socket.socketpair()
        page = os.memfd_create("progress")
        os.ftruncate(page, PROGRESS_BYTES)
        self._progress = memoryview(mmap(page, PROGRESS_BYTES)).cast("q")
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
                [*_COMMAND, str(theirs.fileno()), str(page), str(os.getpid()), str(memory_bytes), prepare],
                env=os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)},
                pass_fds=[theirs.fileno(), page],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the parent
            )
        os.close(page)
        os.setpriority(os.PRIO_PROCESS, self._process.pid, niceness)
        self._connection = Connection(ours.detach())
        self._poller = select.poll()  # that of a Connection is made anew for each look
        self._poller.register(self._connection.fileno(), select.POLLIN)
        self.jobs = 0
        self._ready = False

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def progress(self) -> int:
        """The item of its job that the child noted last."""
        return self._progress[0]

    def await_ready(self) -> None:
        """Wait until its imports are done. Raises ChildDiedError if it ends before."""
        if not self._ready:
            if self._receive(START_SECONDS) != READY:
                raise ChildDiedError("the child did not start", hung=False)
            self._ready = True

    def run(self, name: str, context: bytes, payload: bytes, deadline: float) -> Iterator[bytes]:
        """Do one job, each answer due within `deadline` seconds of the one before, or of the last note of progress.

        Raises:
            ChildDiedError: if the process ends or an answer is late; the child is of no more use then.
        """
        self.jobs += 1
        self.await_ready()
        self._progress[0] = 0
        try:
            self._connection.send_bytes(pickle.dumps((name, context)))
            self._connection.send_bytes(payload)
        except OSError:
            raise ChildDiedError(self._epitaph(), hung=False) from None
        while (answer := self._receive(deadline)) != END:
            yield answer

    def kill(self) -> None:
        """Kill the process; from any thread. Whoever waits for an answer learns of it."""
        self._process.kill()

    def stop(self) -> None:
        """Kill the process and take its remains; stopping twice is fine."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _receive(self, seconds: float) -> bytes:
        quiet, seen = 0, self.progress
        try:
            while quiet < LOOKS:
                if self._poller.poll(1000 * seconds / LOOKS):
                    return self._connection.recv_bytes()
                quiet = quiet + 1 if self.progress == seen else 0
                seen = self.progress
        except (EOFError, OSError):
            raise ChildDiedError(self._epitaph(), hung=False) from None
        raise ChildDiedError(f"no answer within {seconds:g} seconds", hung=True)

    def _epitaph(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        status = self._process.returncode
        return f"ended by signal {-status}" if status is not None and status < 0 else f"ended with status {status}"


class ChildPool:
    """At most `size` children, started when first needed and kept warm until `close`.

    Args:
        prepare: dotted name of the function each child calls once before its limits stand.
        deadline: seconds an answer may take.
        memory_bytes: what one job may allocate in its child.
        niceness: 0..19 added to the children's scheduling priority.
    """

    def __init__(self, size: int, *, prepare: str, deadline: float, memory_bytes: int, niceness: int = 0) -> None:
        self.size = size
        self._prepare = prepare
        self._deadline = deadline
        self._memory_bytes = memory_bytes
        self._niceness = niceness
        self._slots = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        # A child dies with the *thread* that started it (PR_SET_PDEATHSIG), so all are started by one that stays.
        self._starter: ThreadPoolExecutor | None = None

    def warm(self) -> None:
        """Start a child now, so that the first job need not wait for its imports."""
        with self._slots:
            self._give_back(self._take())

    def run(self, name: str, context: bytes, payload: bytes) -> Iterator[bytes]:
        """Do a job in a child: the answers of `name(context, payload)`, as they come.

        Whoever stops reading early loses the child, not the pool.

        Raises:
            ChildDiedError: if the child crashes or an answer misses the deadline.
        """
        with self._slots:
            child = self._take()
            whole = False
            try:
                yield from child.run(name, context, payload, self._deadline)
                whole = True
            except ChildDiedError:
                child.stop()
                self._give_back(self._start())  # warm by the time it is needed
                raise
            finally:
                if whole and child.jobs < MOST_JOBS:
                    self._give_back(child)
                else:
                    child.stop()

    def close(self) -> None:
        """Wait for jobs under way, then kill all children. The pool can be used again."""
        for _ in range(self.size):
            self._slots.acquire()
        with self._lock:
            children, self._idle = self._idle, []
            starter, self._starter = self._starter, None
        for child in children:
            child.stop()
        if starter is not None:
            starter.shutdown()
        self._slots.release(self.size)

    def _take(self) -> Child:
        with self._lock:
            child = self._idle.pop() if self._idle else None
        if child is not None and child.alive:
            return child
        if child is not None:
            child.stop()
        return self._start()

    def _start(self) -> Child:
        with self._lock:
            if self._starter is None:
                self._starter = ThreadPoolExecutor(1, "child-starter")
            starter = self._starter
        return starter.submit(Child, self._prepare, self._memory_bytes, self._niceness).result()

    def _give_back(self, child: Child) -> None:
        with self._lock:
            self._idle.append(child)
