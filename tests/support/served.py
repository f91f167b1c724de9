"""A served home as a real process, for tests that must see what a user sees."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

URL = re.compile(r"http://[\d.]+:\d+")


@dataclass(slots=True)
class Served:
    """A running `manymodels serve`; its children belong to it."""

    home: Path
    url: str
    process: subprocess.Popen

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def children(self) -> dict[int, str]:
        """Process id -> command line of the direct children."""
        found = {}
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                with suppress(FileNotFoundError):  # it has ended meanwhile
                    found[int(child)] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def stop(self) -> int:
        """SIGTERM, then the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """SIGKILL to the parent; its children end by themselves."""
        self.process.kill()
        self.process.wait(timeout=60)


def start(
    home: Path,
    *,
    service: str = "serve",
    processes: int = 1,
    port: int = 0,
    settings: Mapping[str, object] | None = None,
) -> Served:
    """Start a service and wait until it answers, or says that it works; a builder has no URL."""
    environment = os.environ | {f"MANYMODELS_{name.upper()}": str(value) for name, value in (settings or {}).items()}
    arguments = [service, "--home", str(home)]
    if service != "builder":
        arguments += ["--port", str(port), "--processes", str(processes)]
    log = home.parent / f"{home.name}.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("manymodels"), *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
    assert process.stdout is not None
    for line in process.stdout:
        found = URL.search(line)
        if found or service == "builder":
            return Served(home, found.group() if found else "", process)
    process.stdout.close()
    raise AssertionError(f"{service} ended with {process.wait()}: {log.read_text()[-3000:]}")


@contextmanager
def served(
    home: Path,
    *,
    service: str = "serve",
    processes: int = 1,
    port: int = 0,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Served]:
    """A service that is stopped at the end."""
    running = start(home, service=service, processes=processes, port=port, settings=settings)
    try:
        yield running
    finally:
        running.stop()
        assert running.process.stdout is not None
        running.process.stdout.close()
