"""Which models are asked no more: those that ended the process that runs them again and again.

Three times may be an accident of the machine; a model that goes on would keep its neighbours waiting for restarts. It
is refused for a while, then has one more try.
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

from workers.errors import ModelQuarantinedError
from workers.metrics import QUARANTINES

STRIKES: Final = 3
QUARANTINE_SECONDS: Final = 600.0
MOST_STRUCK: Final = 10_000


class Quarantine:
    """Counts what models did. Safe from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._struck: dict[Hashable, tuple[int, float]] = {}  # strikes, and when the last one was

    def strike(self, identity: Hashable) -> int:
        """Note that a model ended its process; answers how often it did lately."""
        now = self._clock()
        with self._lock:
            strikes, at = self._struck.pop(identity, (0, now))
            if now >= at + QUARANTINE_SECONDS:
                strikes = STRIKES - 1 if strikes >= STRIKES else 0
            strikes += 1
            if len(self._struck) >= MOST_STRUCK:
                self._struck.pop(next(iter(self._struck)))
            self._struck[identity] = (strikes, now)
        if strikes >= STRIKES:
            QUARANTINES.inc()
        return strikes

    def check(self, identity: Hashable) -> None:
        """Raises ModelQuarantinedError for a model that is not to be asked now."""
        found = self._struck.get(identity)
        if found is None:
            return
        strikes, at = found
        left = at + QUARANTINE_SECONDS - self._clock()
        if strikes >= STRIKES and left > 0:
            raise ModelQuarantinedError(
                f"the model ended the process that runs it {strikes} times; it is tried again in {left:.0f} s"
            )
