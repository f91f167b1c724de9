"""A whole house on this machine: its servers, and its services as processes that meet only where machines would.

Every process has a name, by which tests and benchmarks (and you, with the table that `make cluster` shows) stop, kill,
freeze and start any of them, one at a time:

    with House(folder) as house:
        house["worker-2"].kill()
        house["worker-2"].start()
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from typing_extensions import override

from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.programs import Program
from deploy.local.servers import BucketServer, ConsulServer, PostgresServer

SETTINGS: Final = {
    "MANYMODELS_PROMOTE_SECONDS": "60",  # so many processes on one machine are slow to import a library
    "MANYMODELS_SPREAD_SECONDS": "1",  # gateways see within half of it that a worker is about to stop
    "MANYMODELS_BUILDER_CHILDREN": "1",
}
STOP_SECONDS: Final = 40.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table of services.

    Attributes:
        command: of `manymodels` that runs it.
        count: how many there are.
        listens: whether it answers requests.
        processes: how many of each answer them.
        settings: environment variables of these alone.
        host: where they listen.
        within: what the command begins with, if they run in a place of their own, such as a network namespace.
    """

    command: str
    count: int = 1
    listens: bool = True
    processes: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    host: str = LOOPBACK
    within: Sequence[str] = ()


SERVICES: Final = (
    Kind("discovery", 1),
    Kind("worker", 3),
    Kind("builder", 1, listens=False),
    Kind("gateway", 2),
)


class Service(Program):
    """One service of manymodels with a home of its own; started again it listens where it did."""

    def __init__(self, name: str, kind: Kind, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, folder / f"{name}.log")
        self.kind = kind
        self.home = folder / name
        self.url = ""
        self._said = folder / f"{name}.ready"
        self._settings = dict(environment)

    @property
    @override
    def address(self) -> str:
        return self.url

    @property
    def port(self) -> int:
        """Where it listens; 0 before its first start."""
        return int(self.url.rpartition(":")[2] or 0)

    @override
    def _command(self) -> Sequence[str]:
        program = [*self.kind.within, sys.executable, "-m", "manymodels"]
        command = [*program, self.kind.command, "--json", "--home", str(self.home)]
        if not self.kind.listens:
            return command
        port = self.port or free_ports(1)[0]
        return [*command, "--host", self.kind.host, "--port", str(port), "--processes", str(self.kind.processes)]

    @override
    def _environment(self) -> Mapping[str, str]:
        return os.environ | self._settings

    @override
    def _launch(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        with self._said.open("wb") as said:
            return self._open(said, log)

    @override
    def _answers(self) -> bool:
        """Whether it has said where it is reached."""
        line, end, _ = self._said.read_text().partition("\n")
        if not end:
            return False
        self.url = json.loads(line).get("url", "")
        return True


class House:
    """Servers and services below a folder, from `start` to `stop`. For one thread.

    Args:
        folder: takes homes, logs and what the bucket holds; PostgreSQL's data lie elsewhere and are thrown away.
        services: which there are, and how many of each.
        members: where they find each other, `consul` or `postgresql`.
        settings: environment variables for every service, over those that this house gives.

    Raises:
        MissingError: if a server is not installed here.
    """

    def __init__(
        self,
        folder: Path,
        *,
        services: Sequence[Kind] = SERVICES,
        members: str = "consul",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        consul = ConsulServer(folder) if members == "consul" else None
        self.bucket = BucketServer(folder)
        self.postgres = PostgresServer()  # last, for it makes a folder elsewhere
        self.consul = consul
        self.servers: list[Program] = [self.postgres, self.bucket, *([consul] if consul else [])]
        found = consul.environment if consul else {}
        given = settings or {}
        self._environment = {**SETTINGS, **self.postgres.environment, **self.bucket.environment, **found, **given}
        self.services: list[Service] = []
        for kind in services:
            self.add(kind)

    def __getitem__(self, name: str) -> Program:
        """One of its programs by name: `postgres`, `bucket`, `consul`, `worker-1`..."""
        return {program.name: program for program in self.programs}[name]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def programs(self) -> list[Program]:
        """All of them, in the order in which they start."""
        return [*self.servers, *self.services]

    def add(self, kind: Kind) -> list[Service]:
        """More services, which are not started yet; those of one command are numbered through."""
        first = len(self.of(kind.command)) + 1
        environment = {**self._environment, **kind.settings}
        names = [f"{kind.command}-{number}" for number in range(first, first + kind.count)]
        added = [Service(name, kind, self.folder, environment) for name in names]
        self.services += added
        return added

    def of(self, command: str) -> list[Service]:
        """The services that a command runs."""
        return [service for service in self.services if service.kind.command == command]

    def start(self) -> None:
        """Start the servers, then all services side by side, and wait until each answers.

        Raises:
            StartError: if one does not.
        """
        for server in self.servers:
            server.start()
        for service in self.services:
            service.launch()
        for service in self.services:
            service.await_answer()

    def stop(self) -> None:
        """Stop everything in good order: who asks before who answers, and the servers at last."""
        for together in (self.of("gateway"), self.services, self.servers):
            _stop_together(together)
        self.postgres.remove()

    def kill(self) -> None:
        """End everything at once."""
        for program in self.programs:
            if program.was_started:
                program.kill()
        self.postgres.remove()


def _stop_together(programs: Sequence[Program]) -> None:
    running = [program for program in programs if program.is_running]
    for program in running:
        program.ask_to_end()
    for program in running:
        program.await_end(STOP_SECONDS)
