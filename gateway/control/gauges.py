"""Gauges that are computed when they are scraped, because they describe the house and not one process.

Counters of requests and loads are kept by the processes that count them; the age of a release or the number of models
by state would be the same in every process, so the process that is scraped reads them once, from its snapshot and
from SQL. No label ever names a model.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from discovery.snapshot import Member, MemberState
from gateway.context import Context
from registry.deployments import get_deployments
from registry.errors import Problem
from registry.groups import each_group
from registry.holds import list_holds
from registry.records import Group
from registry.releases import get_release
from registry.versions import count_heads

log = logging.getLogger("manymodels.gateway")

MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"
SERVICES: Final = "+"  # between what one member serves
STATES: Final = ("registered", "live", "lost", "stale", "failed", "held")


@dataclass(frozen=True, slots=True)
class GroupGauges:
    """What is shown of one group: the live release's age in seconds (None: nothing live), models by state."""

    name: str
    age: float | None
    models: Mapping[str, int]


def exposition(context: Context) -> bytes:
    """All metrics in the Prometheus text format, summed over processes. Blocking: run it in the executor."""
    counted = CollectorRegistry()
    if os.environ.get(MULTIPROCESS):
        MultiProcessCollector(counted)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    else:
        counted = REGISTRY
    computed = CollectorRegistry()
    computed.register(_Computed(context))
    return generate_latest(counted) + generate_latest(computed)


class _Computed(Collector):
    """Reads the house once a scrape."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("manymodels_ready", "1 if this process is ready", float(self._context.ready()))
        snapshot = self._context.watcher.current
        if snapshot is not None:
            yield members_of(snapshot.members)
        try:
            groups = read_groups(self._context)
        except Problem as problem:
            # Metrics must go on when SQL is away: what was counted is still true.
            log.warning("metrics without groups: %s", problem.detail)
            return
        yield from metrics_of(groups)


def metrics_of(groups: list[GroupGauges]) -> Iterator[Metric]:
    """The gauges of all groups."""
    age = GaugeMetricFamily("manymodels_release_age_seconds", "Age of the live release", labels=["group"])
    models = GaugeMetricFamily(
        "manymodels_models",
        "Models by state; lost, stale and failed are of the live release",
        labels=["group", "state"],
    )
    for group in groups:
        if group.age is not None:
            age.add_metric([group.name], group.age)
        for state, count in group.models.items():
            models.add_metric([group.name, state], count)
    yield age
    yield models


def members_of(members: Iterable[Member]) -> Metric:
    """The gauge of members, each counted once for all that it serves; states without a member are shown as well."""
    counts = Counter((SERVICES.join(member.services), member.state) for member in members)
    gauge = GaugeMetricFamily("manymodels_members", "Members by state", labels=["services", "state"])
    for services in sorted({services for services, _ in counts}):
        for state in get_args(MemberState):
            gauge.add_metric([services, state], counts[services, state])
    return gauge


def read_groups(context: Context) -> list[GroupGauges]:
    """What SQL says of every group now; one of which it says what makes no sense is left out."""
    now = context.clock()
    with context.database.read() as conn:
        return each_group(conn, lambda group: _gauges_of(conn, group, now))[0]


def _gauges_of(conn: Connection, group: Group, now: float) -> GroupGauges:
    live = [get_release(conn, group, item.release) for item in get_deployments(conn, group).deployments.values()]
    models = {
        "registered": count_heads(conn, group),
        "live": sum(release.models for release in live),
        **{state: sum(int(item.report.get(state, 0)) for item in live) for state in STATES[2:5]},
        "held": len(list_holds(conn, group, now)),
    }
    age = max((now - (item.ready or item.created) for item in live), default=None)
    return GroupGauges(group.name, age, models)
