"""Model versions of a group: list, history, delete."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.context import Context
from gateway.control import reading
from gateway.control.answers import HistoryJson, TombstoneJson, VersionListJson
from gateway.control.operation import (
    CURSOR,
    GROUP,
    KEY,
    KEY_PROBLEMS,
    LIMIT,
    Answer,
    Operation,
    Parameter,
)
from gateway.control.replies import reply
from gateway.control.shapes import history_json, version_json
from registry.errors import KeyFieldUnknownError
from registry.groups import get_group
from registry.keys import KeySchema, key_text
from registry.versions import delete_key, history, list_heads

_TAG: Final = "tag."


async def list_newest(context: Context, request: Request) -> Response:
    """List the newest version of each key, filtered by key fields and tags."""
    name = reading.group_name(request)
    given = reading.query(request)
    return reply(await context.run(_list, context, name, given))


def _list(context: Context, name: str, given: Mapping[str, str]) -> VersionListJson:
    tags = {text.removeprefix(_TAG): value for text, value in given.items() if text.startswith(_TAG)}
    fields = {
        text: value for text, value in given.items() if text not in ("limit", "cursor") and not text.startswith(_TAG)
    }
    limit = reading.page_limit(given)
    with context.database.read() as conn:
        group = get_group(conn, name)
        where = _where(group.schema, fields)
        page = list_heads(conn, group, where=where, tags=tags, limit=limit, cursor=given.get("cursor"))
        return {"models": [version_json(version) for version in page.items], "cursor": page.cursor}


def _where(schema: KeySchema, fields: Mapping[str, str]) -> dict[str, str]:
    """Checked filter values: any subset of the key fields."""
    for field in fields:
        if field not in schema.fields:
            raise KeyFieldUnknownError(
                f"{field[:64]!r} is no key field; the key fields are {list(schema.fields)}, tags are asked for as"
                " tag.NAME",
                field=field[:64],
            )
    return {field: key_text(value, field) for field, value in fields.items()}


async def show_history(context: Context, request: Request) -> Response:
    """All versions of one key, and when each was live."""
    name = reading.group_name(request)
    given = reading.query(request)
    return reply(await context.run(_history, context, name, given))


def _history(context: Context, name: str, given: Mapping[str, str]) -> HistoryJson:
    with context.database.read() as conn:
        group = get_group(conn, name)
        key = group.schema.parse_partial(given)
        return {"key": key.text, "versions": [history_json(item) for item in history(conn, group, key)]}


async def delete(context: Context, request: Request) -> Response:
    """Add a tombstone version to one key."""
    name = reading.group_name(request)
    given = reading.query(request)
    return reply(await context.run(_delete, context, name, given))


def _delete(context: Context, name: str, given: Mapping[str, str]) -> TombstoneJson:
    with context.database.write() as conn:
        group = get_group(conn, name)
        key = group.schema.parse_partial(given)
        version = delete_key(conn, group, key, context.clock())
    context.watcher.refresh()
    return {"key": key.text, "version": version.number, "tombstone": True}


_FILTER: Final = Parameter(
    "filter",
    "query",
    "any of the key fields, and tags as `tag.NAME`: `?store=2&tag.region=nw`",
    {"type": "object", "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 512}},
    free=True,
)

OPERATIONS: Final = (
    Operation(
        "GET",
        "/v1/groups/{group}/models",
        "listModels",
        "models",
        "List the newest version of each key",
        (Answer(200, "a page of versions in key order", VersionListJson),),
        list_newest,
        parameters=(GROUP, _FILTER, LIMIT, CURSOR),
        problems=("group_not_found", "key_field_unknown", "key_type", "key_too_long", "cursor_invalid"),
    ),
    Operation(
        "GET",
        "/v1/groups/{group}/models/history",
        "getModelHistory",
        "models",
        "All versions of one key, and when each was live",
        (Answer(200, "versions, newest first", HistoryJson),),
        show_history,
        parameters=(GROUP, KEY),
        problems=("group_not_found", "version_not_found", *KEY_PROBLEMS),
    ),
    Operation(
        "DELETE",
        "/v1/groups/{group}/models",
        "deleteModel",
        "models",
        "Delete a key's model by a tombstone version",
        (Answer(200, "the tombstone; the next release holds no model for the key", TombstoneJson),),
        delete,
        parameters=(GROUP, KEY),
        problems=("group_not_found", "version_not_found", *KEY_PROBLEMS),
    ),
)
