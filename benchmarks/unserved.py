"""The gateway over a home that nobody serves, in this process: what a server has, without its sockets."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machine import SERVER_CORE

if TYPE_CHECKING:
    from gateway.context import Context


@contextmanager
def unserved(home: Path) -> Iterator["Context"]:
    """What the gateway's routes are given; this process is pinned to the servers' core."""
    os.sched_setaffinity(0, {SERVER_CORE})
    with tempfile.TemporaryDirectory() as metrics:
        # As in a served process: metrics go through mapped files. Set before the library is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
        from gateway.assembly import Assembly
        from gateway.roles import SERVE
        from gateway.settings import Settings
        from registry.home import Home

        assembly = Assembly(Home(home.absolute()), Settings(), SERVE, uri=None)
        assembly.start()
        try:
            yield assembly.context
        finally:
            assembly.stop()
