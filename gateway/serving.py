"""A service: one parent that owns a home and its port, and the processes that do the work.

The parent alone migrates, listens and holds the home's lock; it answers no request itself. Children are started fresh
(never forked), share the parent's socket, are replaced when they die and end when the parent ends.
"""

import logging
import math
import multiprocessing
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

from gateway.children import Signals, build, serve_requests
from gateway.errors import PortUnavailableError
from gateway.metrics_files import VARIABLE
from gateway.roles import Role
from gateway.settings import Settings, read_settings
from registry.artifacts.stores import open_store
from registry.database import migrate
from registry.errors import AwayError, DatabaseBusyError
from registry.home import Home, HomeLock

log = logging.getLogger("manymodels.serve")

START_SECONDS: Final = 180.0
CALM_SECONDS: Final = 1.0  # a child that died is replaced at most this often
PREPARE_SECONDS: Final = 2.0  # between two tries to prepare a database that is away
LOOK_SECONDS: Final = 0.2  # between two looks at the children
_SPAWN: Final = multiprocessing.get_context("spawn")

# Native models lie scattered over the heap by thousands (packs do not): with huge pages a bulk spends a quarter less
# time finding them.
_HUGE_PAGES: Final = "glibc.malloc.hugetlb=1"

# Native libraries must not start thread pools of their own: one row is scored on the thread that asked.
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_service(
    role: Role, home: Path, host: str, port: int, processes: int, *, on_ready: Callable[[str], None] = print
) -> int:
    """Run a service until SIGTERM or SIGINT; answers the exit code. `on_ready` is told the base URL once all answer.

    The URL of a service that answers no requests is empty, and its host, port and processes count for nothing.

    Raises:
        Problem: if the home is served already, cannot be used, the port is taken, or a setting is missing.
    """
    settings = read_settings()
    role.check(settings)
    house = Home(home.absolute())
    house.prepare()
    with HomeLock(house):
        prepare_environment(house)
        if not role.listens:
            return _Supervisor(role, house, settings, None, "", 0).run(on_ready)
        with _listen(host, port) as listener:
            url = f"http://{_shown(host)}:{listener.getsockname()[1]}"
            return _Supervisor(role, house, settings, listener, url, processes).run(on_ready)


def prepare_environment(home: Home) -> None:
    """Set what child processes must find in their environment before they import anything."""
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")
    os.environ.setdefault("GLIBC_TUNABLES", _HUGE_PAGES)
    shutil.rmtree(home.metrics, ignore_errors=True)
    home.prepare()
    os.environ[VARIABLE] = str(home.metrics)


def prepare_databases(home: Home, settings: Settings) -> None:
    """Bring both databases to the current schema and forget members of an earlier life; under the home's lock."""
    from discovery.memberships import begin_membership  # noqa: PLC0415 - the children are starting meanwhile

    addresses = settings.addresses(home)
    open_store(home, addresses.artifacts, cache_bytes=settings.disk_cache_bytes)  # refuses an address that is none
    migrate(addresses.registry)
    alone = addresses.membership == home.leases_url
    begin_membership(addresses.membership, ttl=settings.lease_seconds, alone=alone)


class _Supervisor:
    """Starts, watches and stops the children. Runs in the parent's main thread."""

    def __init__(
        self, role: Role, home: Home, settings: Settings, listener: socket.socket | None, url: str, processes: int
    ) -> None:
        self._role = role
        self._home = home
        self._settings = settings
        self._listener = listener
        self._url = url
        self._processes = processes
        self._children: dict[str, SpawnProcess] = {}
        self._started: dict[str, float] = {}
        self._signals: dict[str, Signals] = {}
        self._prepared: Event = _SPAWN.Event()
        self._stopping = threading.Event()
        self._prepare_at = math.inf

    def run(self, on_ready: Callable[[str], None]) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        ready = [self._start_server(index) for index in range(self._processes)]
        try:
            self._prepare()
            self._prepared.set()
            if not self._await_ready(ready):
                return 0 if self._stopping.is_set() else 1
            if self._role.builds:
                self._start_builder()  # later, because its children's imports would hold up the first answer
            on_ready(self._url)
            while not self._stopping.is_set():
                self._replace_dead()
                if self._prepare_at <= time.monotonic():
                    self._prepare()
            return 0
        finally:
            self._stop_all()

    def _prepare(self) -> None:
        """Prepare the databases; one that other machines use too may be away, and is prepared when it is back."""
        self._prepare_at = math.inf
        try:
            prepare_databases(self._home, self._settings)
        except AwayError as error:
            if not self._settings.is_shared:
                raise DatabaseBusyError(f"{self._home.root} cannot be served: {error.detail}") from error
            log.warning("%s; what this machine knows is served meanwhile", error)
            self._prepare_at = time.monotonic() + PREPARE_SECONDS

    def _start_server(self, index: int) -> Event:
        signals = Signals(self._prepared, _SPAWN.Event())
        name = f"server-{index}"
        self._signals[name] = signals  # a child takes up its end only when it has started: until then ours must live
        uri = self._settings.advertise or self._url
        self._start(name, serve_requests, (self._role, self._home, self._settings, self._listener, uri, signals))
        return signals.ready

    def _start_builder(self) -> None:
        self._start("builder", build, (self._home, self._settings))

    def _start(self, name: str, target: Callable[..., None], arguments: tuple[object, ...]) -> None:
        process = _SPAWN.Process(target=target, args=arguments, name=f"manymodels-{name}")
        process.start()
        self._children[name] = process
        self._started[name] = time.monotonic()

    def _await_ready(self, ready: list[Event]) -> bool:
        deadline = time.monotonic() + START_SECONDS
        for event in ready:
            while not event.wait(0.05):
                failed = [name for name, child in self._children.items() if child.exitcode not in (None, 0)]
                if failed or self._stopping.is_set() or time.monotonic() > deadline:
                    log.error("not ready: %s", failed or "stopped or too late")
                    return False
        return True

    def _replace_dead(self) -> None:
        wait([child.sentinel for child in self._children.values()], timeout=LOOK_SECONDS)
        for name, child in list(self._children.items()):
            if child.is_alive() or self._stopping.is_set():
                continue
            if time.monotonic() - self._started[name] < CALM_SECONDS:
                self._stopping.wait(LOOK_SECONDS)  # its sentinel would end every wait above at once
                continue
            log.error("%s (process %s) ended with %s; starting another", name, child.pid, child.exitcode)
            if child.pid is not None:
                from prometheus_client import multiprocess  # noqa: PLC0415 - hardly ever needed here

                multiprocess.mark_process_dead(child.pid, str(self._home.metrics))  # type: ignore[no-untyped-call] # as it ships
            if name == "builder":
                self._start_builder()
            else:
                self._start_server(int(name.rpartition("-")[2]))

    def _stop_all(self) -> None:
        for child in self._children.values():
            child.terminate()
        deadline = time.monotonic() + self._settings.spread_seconds + self._settings.drain_seconds + 5.0
        for name, child in self._children.items():
            child.join(max(0.0, deadline - time.monotonic()))
            if child.is_alive():
                log.error("%s did not stop in time and is killed", name)
                child.kill()
                child.join()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise PortUnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port with --port", field="port"
        ) from error
    return listener


def _shown(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - shown, not bound
