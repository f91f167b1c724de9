"""The builder as a process: `serve` starts one beside its gateways; `python -m workers.builder.main` runs one alone.

It opens the home itself, works until it is told to stop, and stops by itself when its parent is gone, so that a `serve`
that was killed leaves no builder behind.
"""

import argparse
import ctypes
import logging
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Final

from discovery.memberships import open_membership
from registry.artifacts.stores import open_store
from registry.database import Database
from registry.home import Home
from workers.builder.context import BuilderContext, BuilderSettings
from workers.builder.service import BuilderService

TITLE: Final = b"mm-builder"  # as `ps -o comm` shows it, at most 15 bytes
PARENT_SECONDS: Final = 0.5

_PR_SET_NAME: Final = 15


def run_builder(home: Path, stop: threading.Event | None = None, settings: BuilderSettings | None = None) -> None:
    """Build for a home until `stop` is set, SIGTERM or SIGINT arrives, or the parent process ends.

    Without `stop` it takes over the process: its title and both signals. The home's databases must be migrated.
    """
    if stop is None:
        stop = threading.Event()
        _take_over_process(stop)
    settings = settings or BuilderSettings()
    place = Home(home)
    addresses = place.addresses(
        registry=settings.registry, membership=settings.membership, artifacts=settings.artifacts
    )
    database = Database(addresses.registry)
    store = open_store(place, addresses.artifacts, cache_bytes=settings.disk_cache_bytes)
    membership = open_membership(addresses.membership, ttl=settings.lease_seconds)
    service = BuilderService(BuilderContext(database, store, membership, settings))
    worker = threading.Thread(target=service.run, args=(stop,), name="builder")
    try:
        worker.start()
        _await_end(worker, stop, _parent())
    finally:
        membership.close()
        database.close()


def main() -> None:
    """Run as a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m workers.builder.main", description=run_builder.__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the home folder")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    run_builder(parser.parse_args().home)


def _parent() -> int:
    """The process to end with, even if it is gone already where that can be known."""
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid


def _await_end(worker: threading.Thread, stop: threading.Event, parent: int) -> None:
    while worker.is_alive():
        worker.join(PARENT_SECONDS)
        if os.getppid() != parent:
            stop.set()


def _take_over_process(stop: threading.Event) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_NAME, TITLE)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())


if __name__ == "__main__":
    main()
