"""The whole house at a glance, for operators and `manymodels status`."""

from typing import Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from discovery.snapshot import GroupView, Snapshot
from gateway.context import Context
from gateway.control import reading
from gateway.control.answers import CacheJson, GroupStatusJson, PacksJson, StatusJson
from gateway.control.discovery import current_snapshot
from gateway.control.groups import live_release
from gateway.control.operation import Answer, Operation
from gateway.control.replies import reply
from gateway.control.shapes import hold_json, member_json, release_json, seated_json
from registry.groups import each_group
from registry.holds import list_holds
from registry.records import Group
from registry.releases import get_release, list_releases
from registry.versions import count_heads


async def show(context: Context, request: Request) -> Response:
    """Each group's live release, its age, lost, stale and held keys; members; the cache and packs of this process."""
    reading.options(request)
    snapshot = current_snapshot(context)
    groups, unreadable = await context.run(_groups, context, snapshot)
    answer = StatusJson(
        revision=str(snapshot.revision),
        groups=groups,
        unreadable=unreadable,
        members=[member_json(member) for member in snapshot.members],
        cache=_cache(context),
        packs=_packs(context),
    )
    return reply(answer)


def _groups(context: Context, snapshot: Snapshot) -> tuple[list[GroupStatusJson], list[str]]:
    now = context.clock()
    with context.database.read() as conn:
        return each_group(conn, lambda group: _group(conn, group, snapshot, now))


def _group(conn: Connection, group: Group, snapshot: Snapshot, now: float) -> GroupStatusJson:
    live = live_release(conn, group, now)
    report = get_release(conn, group, live["release"]).report if live is not None else {}
    releases = list_releases(conn, group, 1)
    view = snapshot.groups.get(group.name)
    shards = _shards(view)
    return {
        "name": group.name,
        "live": live,
        "lost": int(report.get("lost", 0)),
        "stale": int(report.get("stale", 0)),
        "held": [hold_json(hold) for hold in list_holds(conn, group, now)],
        "shards": shards,
        "replicas": group.replicas,
        "pool": group.pool,
        "seated": seated_json(snapshot, view, shards) if view is not None and shards else None,
        "models": count_heads(conn, group),
        "newest_release": release_json(releases[0]) if releases else None,
    }


def _shards(view: GroupView | None) -> int:
    deployments = view.deployments.values() if view is not None else ()
    return next((item.release.manifest.shards for item in deployments), 0)


def _cache(context: Context) -> CacheJson:
    stats = context.cache.stats()
    return {
        "bytes": stats.bytes,
        "budget_bytes": stats.budget_bytes,
        "models": stats.models,
        "hits": stats.hits,
        "misses": stats.misses,
        "evictions": stats.evictions,
    }


def _packs(context: Context) -> PacksJson:
    stats = context.mappings.stats()
    return {
        "bytes": stats.bytes,
        "budget_bytes": stats.budget_bytes,
        "segments": stats.segments,
        "mapped": stats.mapped,
        "unmapped": stats.unmapped,
    }


OPERATIONS: Final = (
    Operation(
        "GET",
        "/v1/status",
        "getStatus",
        "operations",
        "The whole house at a glance",
        (Answer(200, "groups, members and the answering process's cache and packs", StatusJson),),
        show,
        problems=("snapshot_unavailable",),
    ),
)
