"""Callers who come anew while a process has much to do.

The event loop takes one new connection a step. That shares callers fairly among the processes of a port, as long as
steps are short; when they are long, callers wait in the kernel's queue for seconds, where nothing counts them and
nobody tells them to come back later. So after a long step all who wait are taken.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

log = logging.getLogger("manymodels.gateway")

MOST: Final = 512  # connections taken at once


class Newcomers:
    """Takes connections of a listening socket after long steps. For one event loop, from `start` to `stop`."""

    def __init__(
        self, listener: socket.socket, is_busy: Callable[[], bool], make: Callable[[], asyncio.Protocol]
    ) -> None:
        """`is_busy` tells whether the last step was long, `make` makes the protocol of a connection."""
        self._listener = listener.dup()
        self._listener.setblocking(False)
        self._is_busy = is_busy
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to look."""
        self._loop.add_reader(self._listener.fileno(), self._look)

    async def stop(self) -> None:
        """Take no more; those that were taken are being read when this returns."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        await asyncio.gather(*self._tasks)

    def _look(self) -> None:
        if not self._is_busy():
            return
        for _ in range(MOST):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody waits, or this process has no descriptors left
                return
            task = self._loop.create_task(self._take(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._make, connection)
        except OSError as error:  # the caller has left
            connection.close()
            log.debug("a caller left as it was taken: %s", error)
