"""Ports of loopback for programs that are started here.

They are taken from below those that the system gives to outgoing connections: one of those may take any port that
nobody listens on at the moment, and a program that starts a second later, or again after a loss, finds it taken.
"""

import random
import socket
from contextlib import closing
from pathlib import Path
from typing import Final

LOOPBACK = "127.0.0.1"
TRIES: Final = 1000
_LOWEST: Final = 10240
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL: Final = 32768  # where outgoing connections begin


def free_ports(count: int) -> list[int]:
    """So many different ports nobody listens on.

    Raises:
        OSError: if there are not so many.
    """
    chosen = random.SystemRandom()
    found: dict[int, None] = {}
    for _ in range(TRIES):
        port = chosen.randrange(_LOWEST, _end())
        if _is_free(port):
            found[port] = None
        if len(found) == count:
            return list(found)
    raise OSError(f"there are no {count} free ports")


def listens(port: int) -> bool:
    """Whether anybody does."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _is_free(port: int) -> bool:
    try:
        with closing(socket.create_server((LOOPBACK, port))):
            return True
    except OSError:
        return False


def _end() -> int:
    """Where the ports of outgoing connections begin."""
    try:
        lowest = int(_RANGE.read_text().split()[0])
    except OSError:
        return _USUAL
    return lowest if lowest > 2 * _LOWEST else _USUAL
