"""What is looked at once more a while after it was written.

A bucket cannot look at an object's age and delete it in one step, so a sweep that found an object old may delete it
just after somebody wrote it anew. Nobody waits for that: who wrote it looks again when such a sweep must be done.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

log = logging.getLogger("manymodels.registry")

SETTLE_SECONDS: Final = 30.0  # longer than a sweep's look and its deletion lie apart, with all that is tried again


class Settling:
    """Calls `look` for each digest when it has settled, in a thread that lives while there are any."""

    def __init__(
        self,
        look: Callable[[str], None],
        *,
        seconds: float = SETTLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`look` may raise: it is then called again after as long."""
        self._look = look
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._due: deque[tuple[float, str]] = deque()

    def add(self, digest: str) -> None:
        """Look at this one in a while."""
        with self._lock:
            self._due.append((self._clock() + self._seconds, digest))
            if len(self._due) == 1:
                threading.Thread(target=self._run, name="settling", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._due:
                    return
                due, digest = self._due[0]
            time.sleep(max(0.0, due - self._clock()))
            try:
                self._look(digest)
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody must look again
                log.warning("object %s could not be looked at again: %s", digest, error)
                with self._lock:
                    self._due.append((self._clock() + self._seconds, digest))
            with self._lock:
                self._due.popleft()
                if not self._due:
                    return
