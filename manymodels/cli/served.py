"""A server as a child process, for commands that need one for a while: started, awaited, stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import orjson

from manymodels.errors import ManymodelsError

STOP_SECONDS: Final = 20.0
PROMOTE_SECONDS: Final = "60"  # the first model of a library makes the server import it, beside all else going on here


class StartError(ManymodelsError):
    """The server ended before it answered; the text has its own last words."""


class Served:
    """A `serve` of one home in a child process; its log goes to `serve.log` in the home."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def url(self) -> str:
        """The address, once it answers there; waits for it.

        Raises:
            StartError: if it ends instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise StartError(f"the server did not start: {self._last_words()}")
        return str(orjson.loads(line)["url"])

    def wait(self) -> int:
        """Wait until it ends; answers its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """End it and wait for it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        try:
            return str(orjson.loads(lines[-1])["error"]["detail"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return "\n".join(lines[-10:])


@contextmanager
def serving(home: Path, port: int) -> Iterator[Served]:
    """Serve a home at 127.0.0.1 until the block ends; port 0 takes a free one."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "serve.log"
    with log.open("wb") as out:
        served = Served(_start(home, port, out), log)
    try:
        yield served
    finally:
        served.stop()


def _start(home: Path, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    arguments = ["serve", "--json", "--home", str(home), "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(  # noqa: S603 - this very program
        [sys.executable, "-m", "manymodels", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        env={"MANYMODELS_PROMOTE_SECONDS": PROMOTE_SECONDS, **os.environ},
        start_new_session=True,  # Ctrl-C reaches us alone, and we stop it in order
    )
