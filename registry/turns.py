"""Turns: a lock that is given in the order it was asked for.

Python's own lock goes to whoever comes by when it is free. Between threads that write one after the other that is most
often the one that has just written, and the others wait until they may wait no longer.
"""

import threading
from collections import deque


class Turns:
    """One holder at a time, first come first served. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, timeout: float) -> bool:
        """Wait for a turn, at most so many seconds; answers whether it came. Who got one calls `release`."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        if mine.acquire(timeout=timeout):
            return True
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return False
        return True  # it came in the very moment that the time was over

    def release(self) -> None:
        """Give the turn to who has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
