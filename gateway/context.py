"""One frozen context from which every route of a serving process works.

It is made once per process by `gateway.assembly` and handed to the routes; nothing below it is looked up globally.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import ParamSpec, TypeVar

from discovery.membership import Membership
from discovery.watch import SnapshotWatcher
from gateway.roles import Role
from gateway.settings import Settings
from registry.artifacts.store import ArtifactStore
from registry.database import Database
from workers.cache import ModelCache
from workers.client import WorkerClient
from workers.holdings import Holdings
from workers.mappings import Mappings

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """What a serving process works with.

    Attributes:
        role: what this service does.
        worker: answers predicts; local where this service holds models, across the network elsewhere.
        holdings, cache, mappings: of the local worker, for readiness and status; empty where there is none.
        executor: threads for SQL and files, so that the event loop never waits for a disk.
        computing: threads for the rows of bulks, which must not queue behind what waits for a disk or a lock.
        started: seconds since 1970 at which this process came up.
        draining: set once this process stops: it answers, but wants no new connections.
        wake_builder: tells an offline home to work; a no-op where a builder process polls.
    """

    role: Role
    settings: Settings
    database: Database
    store: ArtifactStore
    membership: Membership
    watcher: SnapshotWatcher
    worker: WorkerClient
    holdings: Holdings
    cache: ModelCache
    mappings: Mappings
    executor: Executor
    computing: Executor
    clock: Callable[[], float]
    started: float
    draining: Event
    wake_builder: Callable[[], None]

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work that may wait, for SQL or files, in the executor."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, partial(function, *args, **kwargs))

    async def compute(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work that waits for nothing but a processor."""
        return await asyncio.get_running_loop().run_in_executor(self.computing, partial(function, *args, **kwargs))

    def ready(self) -> bool:
        """Whether this process has a snapshot and, if it holds models, every live release of it."""
        snapshot = self.watcher.current
        if snapshot is None:
            return False
        return not self.role.scores or all(
            self.holdings.get(view.name, deployment.release.number) is not None
            for view in snapshot.groups.values()
            for deployment in view.deployments.values()
        )
