"""Work that nobody waits for: one thread does it, and of what is asked under one name meanwhile only the last."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("manymodels.discovery")


class Aside:
    """A thread of its own from the first work on, until `stop`. Safe from any thread.

    Work that fails is logged and forgotten: whoever asks for it asks again by and by.

    Attributes:
        failures: works that failed since the start.
    """

    def __init__(self, name: str) -> None:
        """Nothing is started yet; `name` is for the log."""
        self.failures = 0
        self._failing = False
        self._name = name
        self._changed = threading.Condition()
        self._asked: dict[str, Callable[[], None]] = {}
        self._doing: str | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    def ask(self, name: str, work: Callable[[], None]) -> None:
        """Have this done soon, instead of what else was asked under that name and has not begun."""
        with self._changed:
            if self._stopping:
                return
            self._asked[name] = work
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def forget(self, name: str, seconds: float) -> None:
        """Begin nothing more of that name, and wait at the most so long for what is under way."""
        with self._changed:
            self._asked.pop(name, None)
            self._changed.wait_for(lambda: self._doing != name, seconds)

    def stop(self) -> None:
        """Begin nothing more. What is under way ends by itself."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - what comes next is to be done all the same
                self.failures += 1
                if not self._failing:
                    log.warning("%s: %s: %s", self._name, type(error).__name__, error)
                self._failing = True
            else:
                if self._failing:
                    log.info("%s: done again", self._name)
                self._failing = False

    def _next(self) -> Callable[[], None] | None:
        """What to do next, None at the end."""
        with self._changed:
            self._doing = None
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._asked or self._stopping)
            if self._stopping:
                return None
            self._doing = next(iter(self._asked))
            return self._asked.pop(self._doing)
