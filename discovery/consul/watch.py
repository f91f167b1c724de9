"""A blocking query kept going: one thread asks, is answered when something changed, and asks again.

Consul's index is a hint and no promise: after a restart it begins anew, and a query that holds a greater one hangs for
its whole wait. So waits are short, and the index is forgotten when it falls and with every failure.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

log = logging.getLogger("manymodels.discovery")

T = TypeVar("T")

WAIT_SECONDS: Final = 5
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0

Ask = Callable[[str | None, str], tuple[str, T]]  # from an index and a wait to the next index and an answer


class Watch(Generic[T]):
    """Hands each answer to `take`, the first one in the caller's thread and all others in a thread of its own.

    Attributes:
        failures: queries that failed since the start.
    """

    def __init__(self, name: str, ask: Ask[T], take: Callable[[T], None]) -> None:
        """Nothing is asked yet.

        Args:
            name: for the log.
            ask: the query: from the index it holds (None to be answered at once) and a wait (`5s`) to the index of the
                answer and what it says.
            take: called with every answer, changed or not, never twice at once.
        """
        self.failures = 0
        self._name = name
        self._ask = ask
        self._take = take
        self._index: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{name}", daemon=True)

    def start(self) -> None:
        """Ask once and wait for the answer, then go on alone. What the query raises leaves nothing started."""
        self._once()
        self._thread.start()

    def stop(self) -> None:
        """Ask no more. A query under way ends by itself and is not taken."""
        self._stopping.set()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                self._once()
            except Exception as error:  # noqa: BLE001 - a watch that died would show yesterday for ever
                if self._stopping.is_set():
                    return
                self._index = None
                self.failures += 1
                if pause == 0.0:
                    log.warning("Consul does not tell of %s, the last answer stays: %s", self._name, error)
                pause = min(2 * pause, LONGEST_PAUSE) or FIRST_PAUSE
            else:
                if pause:
                    log.info("Consul tells of %s again", self._name)
                pause = 0.0

    def _once(self) -> None:
        index, answer = self._ask(self._index, f"{WAIT_SECONDS}s")
        if self._stopping.is_set():
            return
        fell = self._index is not None and int(index) < int(self._index)
        self._index = None if fell or int(index) < 1 else index
        self._take(answer)
