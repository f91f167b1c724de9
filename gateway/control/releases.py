"""Releases: build one, list them, show one."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.context import Context
from gateway.control import reading
from gateway.control.answers import ReleaseJson, ReleaseListJson
from gateway.control.bodies import ReleaseBody
from gateway.control.groups import find
from gateway.control.operation import BODY_PROBLEMS, GROUP, KEY_PROBLEMS, NUMBER, Answer, Lead, Operation, Payload
from gateway.control.replies import reply
from gateway.control.shapes import release_json
from registry.errors import ReleaseNotFoundError
from registry.groups import get_group
from registry.keys import KeySchema, PartitionKey
from registry.records import Release
from registry.releases import begin_release, get_release, list_releases
from registry.tasks import enqueue


async def build(context: Context, request: Request) -> Response:
    """Begin to build a release."""
    name = reading.group_name(request)
    reading.options(request)
    await find(context, name)
    body = await reading.read_json(request, ReleaseBody, context.settings.json_body_bytes, empty={})
    release = await context.run(_begin, context, name, body)
    return reply(release_json(release), 202, {"location": f"/v1/groups/{name}/releases/{release.number}"})


def _begin(context: Context, name: str, body: ReleaseBody) -> Release:
    now = context.clock()
    gates = body.gates.model_dump(exclude_none=True)
    with context.database.write() as conn:
        group = get_group(conn, name)
        named = _named(group.schema, body)
        release = begin_release(conn, group, base=body.base, named=named, gates=gates, now=now)
        enqueue(conn, "release", name, {"release": release.number}, now)
    context.wake_builder()
    return release


def _named(schema: KeySchema, body: ReleaseBody) -> list[tuple[PartitionKey, int]] | None:
    """The versions the body names; None asks for everything newer."""
    if body.set is None:
        return None
    return [(schema.parse_partial(item.key), item.version) for item in body.set]


async def list_all(context: Context, request: Request) -> Response:
    """List the releases of a group."""
    name = reading.group_name(request)
    reading.options(request)
    return reply(await context.run(_list, context, name))


def _list(context: Context, name: str) -> ReleaseListJson:
    with context.database.read() as conn:
        return {"releases": [release_json(release) for release in list_releases(conn, get_group(conn, name))]}


async def show(context: Context, request: Request) -> Response:
    """Show one release."""
    name = reading.group_name(request)
    number = reading.path_number(request, ReleaseNotFoundError)
    reading.options(request)
    return reply(await context.run(_show, context, name, number))


def _show(context: Context, name: str, number: int) -> ReleaseJson:
    with context.database.read() as conn:
        return release_json(get_release(conn, get_group(conn, name), number))


OPERATIONS: Final = (
    Operation(
        "POST",
        "/v1/groups/{group}/releases",
        "buildRelease",
        "releases",
        "Build a release from a base and changes",
        (
            Answer(
                202,
                "the release, being built",
                ReleaseJson,
                headers={"location": "path of the release"},
                leads=Lead(
                    "/v1/groups/{group}/releases/{number}",
                    {"group": "$request.path.group", "number": "$response.body#/number"},
                ),
            ),
        ),
        build,
        description="Without a body: the live release plus everything newer. `set` names exact versions instead."
        " A gate that fails leaves the release `blocked`. Building does not promote: see deployments.",
        parameters=(GROUP,),
        payload=Payload(
            "base, named versions and gates", ReleaseBody, required=False, example={"gates": {"max_lost": 0}}
        ),
        problems=(
            "group_not_found",
            "release_not_found",
            "release_state",
            "version_not_found",
            *KEY_PROBLEMS,
            *BODY_PROBLEMS,
        ),
    ),
    Operation(
        "GET",
        "/v1/groups/{group}/releases",
        "listReleases",
        "releases",
        "List the releases of a group",
        (Answer(200, "releases, newest first", ReleaseListJson),),
        list_all,
        parameters=(GROUP,),
        problems=("group_not_found",),
    ),
    Operation(
        "GET",
        "/v1/groups/{group}/releases/{number}",
        "getRelease",
        "releases",
        "Show one release and its report",
        (Answer(200, "the release", ReleaseJson),),
        show,
        parameters=(GROUP, NUMBER),
        problems=("group_not_found", "release_not_found"),
    ),
)
