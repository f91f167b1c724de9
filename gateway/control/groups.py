"""Groups: create, list, show, place, delete."""

from typing import Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from gateway.context import Context
from gateway.control import reading
from gateway.control.answers import GroupDetailJson, GroupJson, GroupListJson, LiveJson
from gateway.control.bodies import GroupBody, PlacementBody
from gateway.control.operation import BODY_PROBLEMS, GROUP, Answer, Lead, Operation, Parameter, Payload
from gateway.control.replies import empty_reply, reply
from gateway.control.shapes import group_json, live_json
from registry.deployments import get_deployments
from registry.groups import create_group, delete_group, each_group, get_group, place_group
from registry.holds import list_holds
from registry.keys import KeySchema
from registry.records import Group
from registry.releases import get_release
from registry.signature import Signature
from registry.versions import count_heads


async def create(context: Context, request: Request) -> Response:
    """Create a group."""
    reading.options(request)
    body = await reading.read_json(request, GroupBody, context.settings.json_body_bytes)
    group = await context.run(_create, context, body)
    return reply(group_json(group), 201, {"location": f"/v1/groups/{group.name}"})


def _create(context: Context, body: GroupBody) -> Group:
    schema = KeySchema(tuple(body.key), tuple(body.shard_by), tuple(tuple(level) for level in body.fallback))
    signature = Signature.from_json(body.signature.model_dump(exclude_unset=True), schema.fields)
    with context.database.write() as conn:
        group = create_group(
            conn,
            body.name,
            schema,
            signature,
            auto_release=body.auto_release,
            now=context.clock(),
            replicas=body.replicas,
            pool=body.pool,
        )
    context.watcher.refresh()
    return group


async def find(context: Context, name: str) -> Group:
    """The group of a route, looked up before its body is read: nobody uploads gigabytes to a misspelt name.

    Raises:
        GroupNotFoundError: if there is none.
    """
    return await context.run(_find, context, name)


def _find(context: Context, name: str) -> Group:
    with context.database.read() as conn:
        return get_group(conn, name)


async def list_all(context: Context, request: Request) -> Response:
    """List all groups."""
    reading.options(request)
    groups = await context.run(_list, context)
    return reply(GroupListJson(groups=[group_json(group) for group in groups]))


def _list(context: Context) -> list[Group]:
    with context.database.read() as conn:
        return each_group(conn, lambda group: group)[0]


async def show(context: Context, request: Request) -> Response:
    """Show one group and what is live in it."""
    name = reading.group_name(request)
    reading.options(request)
    return reply(await context.run(_show, context, name))


def _show(context: Context, name: str) -> GroupDetailJson:
    now = context.clock()
    with context.database.read() as conn:
        group = get_group(conn, name)
        return {
            **group_json(group),
            "live": live_release(conn, group, now),
            "models": count_heads(conn, group),
            "holds": len(list_holds(conn, group, now)),
        }


def live_release(conn: Connection, group: Group, now: float) -> LiveJson | None:
    """What the group answers from, None while nothing is live."""
    current = get_deployments(conn, group)
    for name, deployment in current.deployments.items():
        return live_json(name, get_release(conn, group, deployment.release), current.promoted.get(name), now)
    return None


async def place(context: Context, request: Request) -> Response:
    """Say where the shards of a group are held."""
    name = reading.group_name(request)
    reading.options(request)
    await find(context, name)
    body = await reading.read_json(request, PlacementBody, context.settings.json_body_bytes)
    return reply(group_json(await context.run(_place, context, name, body)))


def _place(context: Context, name: str, body: PlacementBody) -> Group:
    with context.database.write() as conn:
        group = place_group(conn, name, replicas=body.replicas, pool=body.pool)
    context.watcher.refresh()
    return group


async def delete(context: Context, request: Request) -> Response:
    """Delete a group and all that belongs to it."""
    name = reading.group_name(request)
    confirm = reading.options(request, "confirm").get("confirm", "")
    await context.run(_delete, context, name, confirm)
    return empty_reply()


def _delete(context: Context, name: str, confirm: str) -> None:
    with context.database.write() as conn:
        delete_group(conn, name, confirm=confirm)
    context.watcher.refresh()


_EXAMPLE: Final = {
    "name": "oj-sales",
    "key": ["store", "brand"],
    "signature": {
        "inputs": [{"name": "price", "dtype": "float64"}, {"name": "feat", "dtype": "int64", "default": 0}],
        "outputs": [{"name": "sales"}],
    },
    "fallback": [["brand"], []],
    "auto_release": True,
}
_CONFIRM: Final = Parameter("confirm", "query", "the group's name once more", {"type": "string"}, required=True)

OPERATIONS: Final = (
    Operation(
        "POST",
        "/v1/groups",
        "createGroup",
        "groups",
        "Create a group",
        (
            Answer(
                201,
                "the group",
                GroupJson,
                headers={"location": "path of the group"},
                leads=Lead("/v1/groups/{group}", {"group": "$response.body#/name"}),
            ),
        ),
        create,
        payload=Payload("its name, key fields and signature", GroupBody, example=_EXAMPLE),
        problems=(*BODY_PROBLEMS, "group_invalid", "signature_invalid", "group_exists"),
    ),
    Operation(
        "GET",
        "/v1/groups",
        "listGroups",
        "groups",
        "List all groups",
        (Answer(200, "groups", GroupListJson),),
        list_all,
    ),
    Operation(
        "GET",
        "/v1/groups/{group}",
        "getGroup",
        "groups",
        "Show one group and what is live in it",
        (Answer(200, "the group", GroupDetailJson),),
        show,
        parameters=(GROUP,),
        problems=("group_not_found",),
    ),
    Operation(
        "PUT",
        "/v1/groups/{group}/placement",
        "putPlacement",
        "groups",
        "Say how many seats of which pool hold each shard of a group",
        (Answer(200, "the group", GroupJson),),
        place,
        description="Where workers hold shares, a discovery process moves the shards without a request being lost:"
        " who held one serves it until those who are to hold it have it. Where every worker holds everything, this is"
        " noted and changes nothing.",
        parameters=(GROUP,),
        payload=Payload("replicas, pool or both", PlacementBody, example={"replicas": 3, "pool": "default"}),
        problems=("group_not_found", "group_invalid", *BODY_PROBLEMS),
    ),
    Operation(
        "DELETE",
        "/v1/groups/{group}",
        "deleteGroup",
        "groups",
        "Delete a group with its models, releases and holds",
        (Answer(204, "it is gone"),),
        delete,
        parameters=(GROUP, _CONFIRM),
        problems=("group_not_found", "confirmation_required"),
    ),
)
