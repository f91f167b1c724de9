"""Real Consul agents on loopback: one alone, for one test or for all, or a cluster of them."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from consul import Consul
from consul.exceptions import ConsulException
from requests.exceptions import RequestException

from deploy.local.ports import LOOPBACK
from deploy.local.servers import ConsulServer
from tests.support.installed import needed
from tests.support.waiting import until

SERVERS = 3
HUNG_SECONDS = 2.0
# A dead server stays one of three, and one that came back has its vote at once: else a test would wait for that.
SETTINGS = (
    "performance { raft_multiplier = 1 }",
    'autopilot { cleanup_dead_servers = false server_stabilization_time = "100ms" }',
)


@contextmanager
def agent(folder: Path) -> Iterator[ConsulServer]:
    """An agent until the context is left."""
    running = needed(lambda: ConsulServer(folder))
    running.start()
    try:
        yield running
    finally:
        running.kill()


class ClusterAgent(ConsulServer):
    """An agent of a cluster, with a data folder, so that it comes back as who it was.

    Attributes:
        joins: where it finds the others.
    """

    def __init__(self, folder: Path, name: str, number: int, *, serves: bool) -> None:
        """The `number` makes its id, by which Consul knows it again even without its data."""
        super().__init__(folder, name)
        self.joins: Sequence[str] = ()
        self._data = folder / f"{name}-data"
        self._id = f"00000000-0000-0000-0000-{number:012}"
        self._serves = serves

    @property
    def meeting(self) -> str:
        """Where others of its cluster find it."""
        return f"{LOOPBACK}:{self._ports[0]}"

    @property
    def serving(self) -> str:
        """What the others call it when it leads."""
        return f"{LOOPBACK}:{self._ports[2]}"

    def forget(self) -> None:
        """Throw its data away, once it is killed."""
        shutil.rmtree(self._data)

    def _command(self) -> Sequence[str]:
        role = ("-server", f"-bootstrap-expect={SERVERS}") if self._serves else ()
        joins = [f"-retry-join={meeting}" for meeting in self.joins]
        settings = [part for text in SETTINGS for part in ("-hcl", text)]
        named = (f"-node={self.name}", f"-node-id={self._id}", f"-data-dir={self._data}")
        return [*self._agent(), *role, *named, *joins, "-retry-interval=1s", *settings]


class ConsulCluster:
    """Three servers of one cluster, and the agent on the members' machine, through which they ask.

    Raises:
        MissingError: if there is no Consul here.
    """

    def __init__(self, folder: Path) -> None:
        self.servers = [ClusterAgent(folder, f"server-{n}", n, serves=True) for n in range(1, SERVERS + 1)]
        self.agent = ClusterAgent(folder, "agent", SERVERS + 1, serves=False)
        for one in self._all:
            one.joins = [server.meeting for server in self.servers if server is not one]

    def start(self) -> None:
        """Start all, and wait until they have a leader."""
        for one in self._all:
            one.launch()
        for one in self._all:
            one.await_answer()

    def kill(self) -> None:
        """End all."""
        for one in self._all:
            if one.was_started:
                one.kill()

    def mend(self) -> None:
        """Have all run that a test left lost or frozen."""
        for one in self._all:
            if one.is_running:
                one.thaw()
            else:
                one.start()

    def leader(self) -> ClusterAgent:
        """The server that leads, as the agent hears of it."""
        called = until(self.agent.client.status.leader, 30, "a leader")
        return next(server for server in self.servers if server.serving == called)

    def writes(self) -> bool:
        """Whether the agent finds a leader that takes a write."""
        hasty = Consul(LOOPBACK, self.agent.port, connections_timeout=HUNG_SECONDS)
        try:
            return bool(hasty.kv.put("written", "x"))
        except (ConsulException, RequestException):
            return False

    def is_whole(self) -> bool:
        """Whether every server follows the same leader, and the agent finds that."""
        return len({server.client.status.leader() for server in self.servers} - {""}) == 1 and self.writes()

    @property
    def _all(self) -> list[ClusterAgent]:
        return [*self.servers, self.agent]


@contextmanager
def cluster(folder: Path) -> Iterator[ConsulCluster]:
    """A cluster until the context is left."""
    running = needed(lambda: ConsulCluster(folder))
    try:
        running.start()
        yield running
    finally:
        running.kill()
