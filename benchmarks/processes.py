"""Servers as real processes, each pinned to a core, and the load against them.

All servers of a comparison run at once, and only the one being measured is on the servers' core: the others wait on
the core of the load, where what little they do when idle costs the load, which has time to spare, and not a rival.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import Load
from benchmarks.machine import LOAD_CORE, SERVER_CORE
from deploy.local.ports import free_ports

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 30.0
ROOT: Final = Path(__file__).resolve().parent.parent
# No library may start threads of its own: the comparison is by process, and each has one core.
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        process: its first process; more may stand below it.
        port: on loopback.
    """

    process: "subprocess.Popen[bytes]"
    port: int

    def place(self, core: int) -> None:
        """Pin every thread of every process of the server to a core."""
        for pid in tree(self.process.pid):
            place(pid, core)


@contextmanager
def serving(command: Sequence[str], port: int, *, environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Run a server until the context is left; entered once it takes connections.

    Raises:
        RuntimeError: with what it said, if it does not come up.
    """
    given = {**os.environ, **_ENVIRONMENT, **(environment or {})}
    given.pop("PYTHONDONTWRITEBYTECODE", None)  # a start would compile every module anew, and that be what is measured
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=said, stderr=said)
        try:
            if not _listens(process, port):
                said.seek(0)
                raise RuntimeError(f"{' '.join(command)} does not listen: {said.read().decode()[-2000:]}")
            yield Served(process, port)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def house(home: Path, *, processes: int = 1, environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Our own server over a home, as a user starts it: metrics on, and its builder beside it."""
    [port] = free_ports(1)
    # By module, so that this checkout serves, whichever one the console script was installed from.
    command = [sys.executable, "-m", "manymodels", "serve", "--home", str(home), "--port", str(port)]
    with serving([*command, "--processes", str(processes)], port, environment=environment) as served:
        yield served


@contextmanager
def module(name: str, arguments: Sequence[str]) -> Iterator[Served]:
    """A server of this package, by its module's name."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--port", str(port), *arguments]
    with serving(command, port) as served:
        yield served


def measure(
    served: Served, path: str, bodies: Path, *, connections: int, seconds: float, among: Sequence[Served] = ()
) -> Load:
    """Load one server for a while, alone on its core; the others among which it runs make room."""
    for other in among:
        if other is not served:
            other.place(LOAD_CORE)
    served.place(SERVER_CORE)
    return load(served.port, path, bodies, "--connections", str(connections), "--seconds", str(seconds))


def load(port: int, path: str, bodies: Path, *arguments: str, timeout: float = 180.0) -> Load:
    """Run the load generator in a process of its own."""
    command = ["--port", str(port), "--path", path, "--bodies", str(bodies), "--core", str(LOAD_CORE), *arguments]
    return Load(**json.loads(run("load", command, timeout=timeout)))


def run(name: str, arguments: Sequence[str], *, timeout: float = 180.0) -> bytes:
    """Run a module of this package to its end; its output.

    Raises:
        RuntimeError: with what it said, if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=ROOT,
        env={**os.environ, **_ENVIRONMENT},
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.decode()[-2000:]}")
    return done.stdout


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except FileNotFoundError:
                continue  # the thread ended meanwhile
    return found


def place(pid: int, core: int) -> None:
    """Pin every thread of a process to a core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), {core})
        except ProcessLookupError:
            continue  # it ended meanwhile


def _listens(process: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False
