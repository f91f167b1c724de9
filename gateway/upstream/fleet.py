"""The workers of the current snapshot as upstreams, and the routes to them.

Whoever asks for a route has this look at the snapshot first, which is one comparison while nothing changes. Workers
are known by their address: one that was restarted there is the same, with the record it had, until a probe finds it
well. Routes of former releases stay for a minute, for calls that named one before it was replaced.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Final

from discovery.membership import WORKER
from discovery.placement import serving
from discovery.snapshot import GroupView, LiveRelease, Snapshot
from gateway.metrics import LEFT_OUT
from gateway.upstream.health import eject_slow
from gateway.upstream.routes import Candidates, Route
from gateway.upstream.upstream import Upstream
from workers.errors import ReleaseNotReadyError

log = logging.getLogger("manymodels.gateway")

KEEP_SECONDS: Final = 60.0
PROBE_INTERVAL: Final = 0.15  # seconds between two probes of one worker
PROBES_PER_SECOND: Final = 250.0  # of all workers together: a large fleet is probed more slowly


class UpstreamFleet:
    """Owns the upstreams of one process. For one event loop; probes from the first use to `close`."""

    def __init__(self, snapshot: Callable[[], Snapshot | None], queue_seconds: float) -> None:
        """`snapshot` tells the current one; `queue_seconds` of a worker's work may lie before a call."""
        self._snapshot = snapshot
        self._queue_seconds = queue_seconds
        self._seen: Snapshot | None = None
        self._upstreams: dict[str, Upstream] = {}
        self._routes: dict[tuple[str, int], Route] = {}
        self._gone: dict[tuple[str, int], float] = {}
        self._prober: asyncio.Task[None] | None = None
        self._probes: set[asyncio.Task[None]] = set()

    def route(self, group: str, release: int) -> Route:
        """The way to a release.

        Raises:
            ReleaseNotReadyError: if no snapshot of the last minute has it.
        """
        snapshot = self._snapshot()
        if snapshot is not self._seen and snapshot is not None:
            self._see(snapshot)
        route = self._routes.get((group, release))
        if route is None:
            raise ReleaseNotReadyError(f"release {release} of {group!r} is not known here")
        return route

    def close(self) -> None:
        """Stop probing, and close what is idle."""
        if self._prober is not None:
            self._prober.cancel()
        for upstream in self._upstreams.values():
            upstream.close()

    def _see(self, snapshot: Snapshot) -> None:
        now = asyncio.get_running_loop().time()
        self._seen = snapshot
        self._see_members(snapshot)
        there = {(view.name, release.number): (view, release) for view, release in _releases(snapshot)}
        for place, (view, release) in there.items():
            known = self._routes.get(place)
            same = known is not None and known.release.manifest_digest == release.manifest_digest
            if known is None or not same or known.view.schema != view.schema:
                self._routes[place] = Route(view, release, self._candidates)
            else:
                known.view, known.release, known.spread = view, release, view.replicas
        self._forget(there.keys(), now)
        for route in self._routes.values():
            route.forget_candidates()
        if self._prober is None:
            self._prober = asyncio.get_running_loop().create_task(self._probe())

    def _forget(self, there: Collection[tuple[str, int]], now: float) -> None:
        """Let go of routes that no snapshot of the last minute had."""
        for place in list(self._routes):
            if place in there:
                self._gone.pop(place, None)
            elif now - self._gone.setdefault(place, now) > KEEP_SECONDS:
                del self._routes[place], self._gone[place]

    def _see_members(self, snapshot: Snapshot) -> None:
        uris = {member.uri for member in snapshot.members if WORKER in member.services and member.state != "dead"}
        for uri in self._upstreams.keys() - uris:
            self._upstreams.pop(uri).close()
        for uri in uris - self._upstreams.keys():
            self._upstreams[uri] = Upstream(uri, self._queue_seconds, self._others_are_well)
            self._begin_probe(self._upstreams[uri])  # until it succeeds the worker is left out

    def _candidates(self, route: Route, shard: int) -> Candidates:
        assert self._seen is not None, "a route comes from a snapshot"
        members = serving(self._seen, route.view, route.release, shard)
        # Processes of one worker share an address, and stand where the first of them stands.
        found = dict.fromkeys(member.uri for member in members)
        return tuple(self._upstreams[uri] for uri in found if uri in self._upstreams)

    async def _probe(self) -> None:
        """Probe every worker again and again; one that hangs holds up no other."""
        loop = asyncio.get_running_loop()
        while True:
            upstreams = list(self._upstreams.values())
            for upstream in upstreams:
                self._begin_probe(upstream)
            records = [upstream.record for upstream in upstreams]
            LEFT_OUT.set(sum(record.is_out(loop.time()) for record in records))
            for record in eject_slow(records, loop.time()):
                log.warning("a worker is far slower than the others and is left out until %.1f", record.until)
            await asyncio.sleep(max(PROBE_INTERVAL, len(upstreams) / PROBES_PER_SECOND))

    def _others_are_well(self, upstream: Upstream) -> bool:
        return any(other.record.well for other in self._upstreams.values() if other is not upstream)

    def _begin_probe(self, upstream: Upstream) -> None:
        task = asyncio.get_running_loop().create_task(upstream.probe())
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)


def _releases(snapshot: Snapshot) -> Iterator[tuple[GroupView, LiveRelease]]:
    for view in snapshot.groups.values():
        for release in view.wanted:
            yield view, release
        for deployment in view.deployments.values():
            yield view, deployment.release
