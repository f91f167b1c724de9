"""What the children of `serve` run: lighter to import than what they run, which overlaps with their parent's work.

A parent brings the databases to their schema while its children import what they need; none opens a database before it
is told that they are ready.
"""

import ctypes
import logging
import multiprocessing
import resource
import signal
import socket
import sys
from multiprocessing.synchronize import Event
from typing import Final, NamedTuple

from gateway.metrics_files import set_aside
from gateway.roles import Role
from gateway.settings import Settings
from registry.home import Home

_PR_SET_PDEATHSIG: Final = 1


class Signals(NamedTuple):
    """What a server and its parent tell each other.

    Attributes:
        prepared: set by the parent once the databases have their schema.
        ready: set by the server once it answers.
    """

    prepared: Event
    ready: Event


def configure_process() -> None:
    """What every long-lived process of a home needs: logging, open files, an end when its parent ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    end_with_parent()
    # Each mapped segment holds a descriptor, and each client a socket.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def end_with_parent() -> None:
    """Have SIGTERM sent to this process when its parent ends. Raises SystemExit if that has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # before it could be asked for: no signal will come
        sys.exit(1)


def serve_requests(
    role: Role, home: Home, settings: Settings, listener: socket.socket, uri: str, signals: Signals
) -> None:
    """The target of a serving process: serve until SIGTERM, then finish what is under way."""
    configure_process()
    set_aside(home)
    from gateway.server import run_server  # noqa: PLC0415 - heavy: while the parent works

    signals.prepared.wait()
    run_server(role, home, settings, listener, uri, signals.ready)


def build(home: Home, settings: Settings) -> None:
    """The target of the builder's process."""
    configure_process()
    from gateway.building import builder_settings  # noqa: PLC0415 - heavy, and only for this process
    from workers.builder.main import run_builder  # noqa: PLC0415 - as above

    run_builder(home.root, settings=builder_settings(settings))
