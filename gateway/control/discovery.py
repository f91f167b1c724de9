"""Discovery for client applications: where a key is served, which services there are, and the whole snapshot.

All three answer from the snapshot in memory; no route here asks SQL.
"""

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from discovery.errors import SnapshotUnavailableError
from discovery.lookup import group_view, lookup
from discovery.snapshot import GroupView, Revision, Snapshot
from gateway.context import Context
from gateway.control import reading
from gateway.control.bodies import GROUP_PATTERN
from gateway.control.discovery_answers import LookupJson, ServicesJson, SnapshotJson
from gateway.control.operation import KEY, KEY_PROBLEMS, Answer, Operation, Parameter
from gateway.control.replies import reply
from gateway.control.shapes import services_json, snapshot_json, standing_json
from gateway.errors import ParameterInvalidError

_REVISION: Final = re.compile(r".{1,64}-[0-9]{1,18}", re.ASCII)


async def look_up(context: Context, request: Request) -> Response:
    """Where one key is served, and which model answers for it."""
    given = reading.query(request)
    name = given.pop("group", "")
    if not name:
        raise ParameterInvalidError("the parameter group is required", field="group")
    snapshot = current_snapshot(context)
    view = group_view(snapshot, name)
    explain = _explain(given, view)
    values = view.schema.parse(given)
    found = lookup(snapshot, name, values)
    use = await context.worker.resolve(name, found.release, values, len(view.schema.fallback), view.disabled)
    answer = LookupJson(
        group=name,
        key=found.key.text,
        shard=found.shard,
        slot=found.slot,
        release=found.release,
        deployment=found.deployment,
        version=use.version,
        model_key=use.key,
        fallback_level=use.fallback_level,
        members=[{"id": member.id, "uri": member.uri, "state": member.state} for member in found.members],
        revision=str(found.revision),
        ttl=found.ttl,
    )
    if explain:
        answer["explanation"] = [standing_json(candidate) for candidate in found.placement.candidates]
    return reply(answer)


def _explain(given: dict[str, str], view: GroupView) -> bool:
    """Whether an explanation is asked for; in a group with a key field of that name the parameter is that field."""
    if "explain" in view.schema.fields:
        return False
    text = given.pop("explain", "false")
    if text not in ("true", "false"):
        raise ParameterInvalidError("explain is true or false", field="explain")
    return text == "true"


async def list_services(context: Context, request: Request) -> Response:
    """The services of this house and their members."""
    reading.options(request)
    snapshot = current_snapshot(context)
    return reply(ServicesJson(services=services_json(snapshot.members), revision=str(snapshot.revision)))


async def show_snapshot(context: Context, request: Request) -> Response:
    """The whole snapshot, at once or when it differs from `since`."""
    given = reading.options(request, "since", "wait")
    seconds = reading.wait_seconds(given)
    if "since" in given:
        snapshot = await context.watcher.wait(read_revision(given["since"]), seconds)
    else:
        snapshot = current_snapshot(context)
    return reply(snapshot_json(snapshot))


def read_revision(text: str) -> Revision | None:
    """A revision as an earlier answer told it; None for any other text, which is no revision of ours."""
    epoch, _, number = text.rpartition("-")
    return Revision(epoch, int(number)) if _REVISION.fullmatch(text) else None


def current_snapshot(context: Context) -> Snapshot:
    """The snapshot of now.

    Raises:
        SnapshotUnavailableError: before the first one was read.
    """
    snapshot = context.watcher.current
    if snapshot is None:
        raise SnapshotUnavailableError("this process has not read its first snapshot yet")
    return snapshot


_GROUP: Final = Parameter(
    "group", "query", "the group's name", {"type": "string", "pattern": GROUP_PATTERN}, required=True
)
_EXPLAIN: Final = Parameter(
    "explain",
    "query",
    "also tell of every member why it stands where it stands; in a group with a key field `explain` it is that field",
    {"type": "boolean", "default": False},
)
_SINCE: Final = Parameter(
    "since", "query", "a `revision` of an earlier answer; an unknown one is answered at once", {"type": "string"}
)
_WAIT: Final = Parameter(
    "wait",
    "query",
    "how long to wait for a change: `30s`, `500ms`, `1m`; at most a minute",
    {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,6})?(ms|s|m)?$", "default": "0"},
)

OPERATIONS: Final = (
    Operation(
        "GET",
        "/v1/discovery/lookup",
        "lookup",
        "discovery",
        "Where one key is served, and which model answers",
        (Answer(200, "shard, model and members", LookupJson),),
        look_up,
        parameters=(_GROUP, _EXPLAIN, KEY),
        problems=(
            "group_not_found",
            "nothing_live",
            "partition_not_found",
            "release_not_ready",
            "snapshot_unavailable",
            *KEY_PROBLEMS,
        ),
    ),
    Operation(
        "GET",
        "/v1/discovery/services",
        "listServices",
        "discovery",
        "Members by service",
        (Answer(200, "services", ServicesJson),),
        list_services,
        problems=("snapshot_unavailable",),
    ),
    Operation(
        "GET",
        "/v1/discovery/snapshot",
        "getSnapshot",
        "discovery",
        "The snapshot, as a long poll",
        (Answer(200, "the snapshot", SnapshotJson),),
        show_snapshot,
        description="Without `since` at once; with it when the revision differs, or after `wait` as it then is.",
        parameters=(_SINCE, _WAIT),
        problems=("snapshot_unavailable", "watchers_full"),
    ),
)
