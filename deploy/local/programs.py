"""A program of the house as a process of this machine, to be started, stopped, killed and frozen by whoever tries it.

Each program leads a session of its own. So a Ctrl-C in the terminal reaches only who started it, and what happens to a
machine can be done to all its processes at once: `kill` is a loss of power and `freeze` a network that swallows
everything, while `signal` reaches the first process alone.
"""

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

START_SECONDS: Final = 120.0  # where everything starts at once
STOP_SECONDS: Final = 30.0
ASK_SECONDS: Final = 0.01


class MissingError(RuntimeError):
    """A program is not installed here; the text says what to install."""


class StartError(RuntimeError):
    """A program did not come up; the text has its own last words."""


class Program(ABC):
    """One process and what it started, from `start` to `stop` or `kill`; then it may be started again.

    Not for several threads at once.

    Attributes:
        name: what it is called where the house is shown.
        log: the file that takes what it says.
        account: the user it runs as; None is whoever starts it.
        folder: where it runs; None is here.
    """

    ends_at: signal.Signals = signal.SIGTERM
    account: str | None = None
    folder: Path | None = None

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it is reached, for people."""

    @property
    def pid(self) -> int:
        """Id of its first process."""
        return self._started().pid

    @property
    def is_running(self) -> bool:
        """Whether its first process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def was_started(self) -> bool:
        """Whether there ever was a process of it."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            StartError: if it ends instead, or takes too long.
        """
        self.launch()
        self.await_answer()

    def launch(self) -> None:
        """Start it and wait for nothing."""
        with self.log.open("ab") as log:
            self._process = self._launch(log)

    def await_answer(self) -> None:
        """Wait until it is up; if it does not come up it is ended.

        Raises:
            StartError: if it ends instead, or takes too long.
        """
        try:
            until(self._answers_or_ended, START_SECONDS, f"the first answer of {self.name}")
        except StartError:
            self.kill()
            raise
        if not self.is_running:
            raise StartError(f"{self.name} ended with {self._started().returncode}: {self.last_words()}")

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """End it in good order and answer its exit code; it is killed if it takes too long."""
        self.ask_to_end()
        return self.await_end(seconds)

    def ask_to_end(self) -> None:
        """Tell it to end in good order, and wait for nothing."""
        if self.is_running:
            self.signal(self.ends_at)
            self.thaw()  # what is frozen would not hear of it

    def await_end(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until it has ended, kill what is left of it, and answer its exit code."""
        process = self._started()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        self.kill()
        return process.returncode

    def kill(self) -> None:
        """End all its processes at once, as a loss of power does."""
        self._signal_all(signal.SIGKILL)
        self._started().wait(STOP_SECONDS)

    def freeze(self) -> None:
        """Let no process of it go on, as if nothing came through the network any more.

        Its first process has come to rest with all its threads on return: the signal alone leaves some of them running
        for as long as a busy machine takes.
        """
        self._signal_all(signal.SIGSTOP)
        until(self._rests_or_ended, STOP_SECONDS, f"the rest of {self.name}")

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal to its first process."""
        self._started().send_signal(number)

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return "\n".join(lines[-10:]) or "it said nothing"

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """What to run."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it is up by now."""

    def _answers_or_ended(self) -> bool:
        return self._answers() or not self.is_running

    def _rests_or_ended(self) -> bool:
        seen = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT  # and whoever waits for its end still hears of that
        return os.waitid(os.P_PID, self.pid, seen) is not None or not self.is_running

    def _environment(self) -> Mapping[str, str] | None:
        """Its environment; None is ours."""
        return None

    def _launch(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        return self._open(log, log)

    def _open(self, out: IO[bytes], errors: IO[bytes]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603 - programs of the house
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            env=self._environment(),
            user=self.account,
            cwd=self.folder,
            start_new_session=True,
        )

    def _started(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    def _signal_all(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def until(happened: Callable[[], object], seconds: float, what: str) -> None:
    """Ask again and again until it has happened.

    Raises:
        StartError: when `seconds` are over.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise StartError(f"{what} did not happen within {seconds:g} s")
        time.sleep(ASK_SECONDS)
