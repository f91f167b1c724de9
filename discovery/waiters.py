"""Long polls: coroutines of any event loop that wait for a thread to publish the next snapshot."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from discovery.errors import WatchersFullError


class Waiters:
    """A bounded set of futures, all resolved by one `wake`. Safe from any thread; each future stays on its own loop.

    Attributes:
        closed: whether nobody waits any more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._futures: set[asyncio.Future[None]] = set()
        self.closed = False

    def __len__(self) -> int:
        return len(self._futures)

    @asynccontextmanager
    async def woken(self) -> AsyncIterator[asyncio.Future[None]]:
        """A future that the next `wake` resolves; after `close` it is resolved at once.

        Raises:
            WatchersFullError: if as many are waiting as are allowed.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if len(self._futures) >= self._limit:
                raise WatchersFullError(f"{self._limit} long polls are under way in this process, which is its limit")
            if self.closed:
                future.set_result(None)
            else:
                self._futures.add(future)
        try:
            yield future
        finally:
            with self._lock:
                self._futures.discard(future)

    def wake(self) -> None:
        """Resolve all futures, on their own loops."""
        with self._lock:
            futures = list(self._futures)
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for future in futures:
            by_loop.setdefault(future.get_loop(), []).append(future)
        for loop, waiting in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, waiting)

    def close(self) -> None:
        """Resolve all futures, and from now on every new one at once."""
        with self._lock:
            self.closed = True
        self.wake()


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
