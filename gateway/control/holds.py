"""Holds: standing rules for one key (disable, pin, freeze)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.context import Context
from gateway.control import reading
from gateway.control.answers import HoldJson, HoldListJson
from gateway.control.bodies import HoldBody
from gateway.control.groups import find
from gateway.control.operation import BODY_PROBLEMS, GROUP, KEY, KEY_PROBLEMS, Answer, Operation, Payload
from gateway.control.replies import empty_reply, reply
from gateway.control.shapes import hold_json
from registry.errors import HoldInvalidError
from registry.groups import get_group
from registry.holds import drop_hold, list_holds, put_hold


async def put(context: Context, request: Request) -> Response:
    """Put a hold on one key, in place of the one it has."""
    name = reading.group_name(request)
    given = reading.query(request)
    await find(context, name)
    body = await reading.read_json(request, HoldBody, context.settings.json_body_bytes)
    return reply(await context.run(_put, context, name, given, body))


def _put(context: Context, name: str, given: Mapping[str, str], body: HoldBody) -> HoldJson:
    until = None if body.until is None else parse_until(body.until)
    with context.database.write() as conn:
        group = get_group(conn, name)
        hold = put_hold(
            conn,
            group,
            group.schema.parse_partial(given),
            action=body.action,
            version=body.version,
            reason=body.reason,
            author=body.author,
            until=until,
            now=context.clock(),
        )
    context.watcher.refresh()
    return hold_json(hold)


def parse_until(text: str) -> float:
    """Seconds since 1970 of a date (its first moment, UTC) or an RFC 3339 time; without an offset it is UTC.

    Raises:
        HoldInvalidError: if it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
        # In UTC, so that a time whose offset leads out of the calendar is refused here and not when it is shown.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise HoldInvalidError(
            f"until is a date or an RFC 3339 time, e.g. 2026-12-01T08:00:00Z, got {text!r}", field="until"
        ) from error


async def list_all(context: Context, request: Request) -> Response:
    """List the holds of a group."""
    name = reading.group_name(request)
    reading.options(request)
    return reply(await context.run(_list, context, name))


def _list(context: Context, name: str) -> HoldListJson:
    with context.database.read() as conn:
        holds = list_holds(conn, get_group(conn, name), context.clock())
        return {"holds": [hold_json(hold) for hold in holds]}


async def drop(context: Context, request: Request) -> Response:
    """Drop the hold of one key."""
    name = reading.group_name(request)
    given = reading.query(request)
    await context.run(_drop, context, name, given)
    return empty_reply()


def _drop(context: Context, name: str, given: Mapping[str, str]) -> None:
    with context.database.write() as conn:
        group = get_group(conn, name)
        drop_hold(conn, group, group.schema.parse_partial(given))
    context.watcher.refresh()


_EXAMPLE: Final = {"action": "disable", "reason": "negative answers", "until": "2026-12-01"}

OPERATIONS: Final = (
    Operation(
        "PUT",
        "/v1/groups/{group}/holds",
        "putHold",
        "holds",
        "Disable, pin or freeze one key",
        (Answer(200, "the hold", HoldJson),),
        put,
        description="`disable` passes the key over at once, its fallback answers. `pin` and `freeze` rule what releases"
        " built from now on hold for the key.",
        parameters=(GROUP, KEY),
        payload=Payload("the rule", HoldBody, example=_EXAMPLE),
        problems=("group_not_found", "hold_invalid", "version_not_found", *KEY_PROBLEMS, *BODY_PROBLEMS),
    ),
    Operation(
        "GET",
        "/v1/groups/{group}/holds",
        "listHolds",
        "holds",
        "List the holds that stand now",
        (Answer(200, "holds in key order", HoldListJson),),
        list_all,
        parameters=(GROUP,),
        problems=("group_not_found",),
    ),
    Operation(
        "DELETE",
        "/v1/groups/{group}/holds",
        "deleteHold",
        "holds",
        "Drop the hold of one key",
        (Answer(204, "it is gone"),),
        drop,
        parameters=(GROUP, KEY),
        problems=("group_not_found", "hold_not_found", *KEY_PROBLEMS),
    ),
)
