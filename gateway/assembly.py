"""One serving process put together: every room's parts, in the order they start and stop.

The only place that knows how the rooms are wired. A serving process and an offline home differ in two things alone:
whether they join the membership, and who builds; the services of a cluster in whether they hold models or ask others.
"""

import os
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Event
from typing import Any

from discovery.assigning import Assigner
from discovery.keeper import LeaseKeeper
from discovery.memberships import open_membership
from discovery.saved import SavedSnapshot
from discovery.seating import ASSIGNED, seat_name
from discovery.snapshot import Member
from discovery.watch import SnapshotWatcher
from gateway.context import Context
from gateway.roles import Role
from gateway.settings import Settings
from gateway.upstream.remote import RemoteWorkers
from registry.artifacts.stores import open_store
from registry.database import Database
from registry.home import Home
from workers.cache import ModelCache
from workers.holdings import Holdings
from workers.loading import Loader
from workers.mappings import Mappings
from workers.sandbox.process import Limits
from workers.sandbox.sandboxes import Sandboxes
from workers.warmup import WarmUp
from workers.worker import LocalWorker


class Assembly:
    """Owns the parts of one process over one home. Start and stop once, from the thread that owns the process."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        role: Role,
        *,
        uri: str | None,
        wake_builder: Callable[[], None] = lambda: None,
    ) -> None:
        """`uri` is where clients reach this process; None for an offline home, which joins nothing."""
        self._settings = settings
        member = _member(role, uri, settings) if uri is not None else None
        addresses = settings.addresses(home)
        database = Database(addresses.registry)
        store = open_store(home, addresses.artifacts, cache_bytes=settings.disk_cache_bytes)
        membership = open_membership(addresses.membership, ttl=settings.lease_seconds)
        holdings = Holdings(
            store,
            keep_seconds=settings.keep_release_seconds,
            seat=seat_name(member) if member is not None and role.assigned else None,
            fetch_threads=settings.fetch_threads,
        )
        cache = ModelCache(
            settings.cache_bytes,
            large_budget_bytes=settings.large_cache_bytes,
            large_model_bytes=settings.large_model_bytes,
        )
        loader = Loader(
            cache,
            threads=settings.load_threads,
            refuse_seconds=settings.failed_load_seconds,
            deadline_seconds=settings.load_seconds,
            sandboxes=_sandboxes(settings),
        )
        mappings = Mappings(settings.mapped_bytes)
        watcher = SnapshotWatcher(
            database,
            store,
            membership,
            adopt=holdings.adopt if role.scores else None,
            member_id=member.id if member and role.scores else None,
            saved=SavedSnapshot(home.snapshot) if member and settings.is_shared else None,
            interval=settings.poll_seconds,
            max_waiters=settings.max_watchers,
        )
        self._executor = ThreadPoolExecutor(settings.sql_threads, thread_name_prefix="sql")
        self._computing = ThreadPoolExecutor(settings.row_threads, thread_name_prefix="rows")
        self._worker: LocalWorker | RemoteWorkers
        if role.scores:
            self._worker = LocalWorker(
                holdings,
                cache,
                loader,
                mappings,
                score_threads=settings.score_threads,
                queue_seconds=settings.queue_seconds,
            )
        else:
            self._worker = RemoteWorkers(
                lambda: watcher.current,
                self._computing,
                seconds=settings.request_seconds,
                queue_seconds=settings.queue_seconds,
            )
        self._assigner = Assigner(database, membership, lambda: watcher.current, seat_seconds=settings.seat_seconds)
        self._warm_up = WarmUp(holdings, cache, loader)
        self._keeper = (
            LeaseKeeper(membership, member, ttl=settings.lease_seconds, stats=self._stats) if member else None
        )
        self.context = Context(
            role=role,
            settings=settings,
            database=database,
            store=store,
            membership=membership,
            watcher=watcher,
            worker=self._worker,
            holdings=holdings,
            cache=cache,
            mappings=mappings,
            executor=self._executor,
            computing=self._computing,
            clock=time.time,
            started=time.time(),
            draining=Event(),
            wake_builder=wake_builder,
        )

    def start(self) -> None:
        """Join, take up the first snapshot and map what is live; blocks until requests can be answered."""
        if self._keeper is not None:
            # All processes of a machine fetch a release in one moment, beside requests: no time to load libraries.
            self.context.store.prepare()
            self._keeper.start()
        self.context.watcher.start()
        if self.context.role.assigns:
            self._assigner.start()
        if self.context.role.scores and self._settings.warm_up and self._keeper is not None:
            self._warm_up.start()

    def drain(self) -> None:
        """Say that no new request should come here, and end the long polls."""
        self.context.draining.set()
        if self._keeper is not None:
            self._keeper.drain()
        self.context.watcher.end_waits()

    def stop(self) -> None:
        """Stop all threads and leave."""
        self._warm_up.stop()
        self._assigner.stop()
        self.context.watcher.stop()
        if self._keeper is not None:
            self._keeper.stop()
        self._worker.close()
        self._computing.shutdown(wait=True)
        self._executor.shutdown(wait=True)
        self.context.membership.close()
        self.context.database.close()

    def _stats(self) -> Mapping[str, Any]:
        return {"cache": asdict(self.context.cache.stats())}


def _sandboxes(settings: Settings) -> Sandboxes:
    limits = Limits(settings.sandbox_bytes, settings.load_seconds, settings.predict_seconds, settings.queue_seconds)
    return Sandboxes(settings.sandboxes, limits, runtimes=settings.sandboxed_runtimes.split(","))


def _member(role: Role, uri: str, settings: Settings) -> Member:
    said = {"seat": settings.seat or uri, "zone": settings.zone, "pool": settings.pool, "weight": str(settings.weight)}
    return Member(
        id=f"{role.services[-1]}-{os.getpid()}-{secrets.token_hex(4)}",
        uri=uri,
        state="alive",
        services=role.services,
        metadata={"pid": str(os.getpid()), **said, **({"assigned": ASSIGNED} if role.assigned else {})},
    )
