"""Bulk imports: upload a Parquet file, follow its progress, read its rejects."""

from typing import Final, Literal, cast

from starlette.requests import Request
from starlette.responses import Response

from gateway.context import Context
from gateway.control import reading
from gateway.control.answers import ImportJson, ImportListJson, RejectListJson
from gateway.control.groups import find
from gateway.control.operation import CURSOR, GROUP, LIMIT, NUMBER, Answer, Lead, Operation, Parameter, Payload
from gateway.control.registration import RUNTIMES, read_runtime, used_once_committed
from gateway.control.replies import reply
from gateway.control.shapes import import_json, reject_json
from gateway.errors import ParameterInvalidError
from registry.errors import ImportNotFoundError
from registry.groups import get_group
from registry.imports import create_import, get_import, list_imports, list_rejects
from registry.records import Import, RuntimeName
from workers.errors import ParquetInvalidError

OnError = Literal["fail", "skip"]
PARQUET: Final = "application/vnd.apache.parquet"


async def upload(context: Context, request: Request) -> Response:
    """Start an import of many models from one Parquet file."""
    name = reading.group_name(request)
    await find(context, name)
    on_error = reading.options(request, "on_error").get("on_error", "fail")
    if on_error not in ("fail", "skip"):
        raise ParameterInvalidError("on_error is fail or skip", field="on_error")
    runtime = read_runtime(request)
    body = reading.upload(request, context.settings.bulk_upload_bytes)
    staged, size = await context.store.stage(body.chunks(), context.settings.bulk_upload_bytes)
    if not size:
        await context.run(context.store.unstage, staged)
        raise ParquetInvalidError("the body is empty; send a Parquet file")
    item = await context.run(_create, context, name, staged, body.digest, cast("OnError", on_error), runtime)
    return reply(import_json(item), 202, {"location": f"/v1/groups/{name}/imports/{item.number}"})


def _create(
    context: Context, name: str, staged: str, digest: str, on_error: OnError, runtime: RuntimeName | None
) -> Import:
    with used_once_committed(context, staged), context.database.write() as conn:
        group = get_group(conn, name)
        item = create_import(
            conn, group, source=staged, digest=digest, on_error=on_error, runtime=runtime, now=context.clock()
        )
    if item.source != staged:  # the same file is being imported already: this copy is not needed
        context.store.unstage(staged)
    context.wake_builder()
    return item


async def list_all(context: Context, request: Request) -> Response:
    """List the imports of a group."""
    name = reading.group_name(request)
    reading.options(request)
    return reply(await context.run(_list, context, name))


def _list(context: Context, name: str) -> ImportListJson:
    with context.database.read() as conn:
        return {"imports": [import_json(item) for item in list_imports(conn, get_group(conn, name))]}


async def show(context: Context, request: Request) -> Response:
    """Show how far an import is."""
    name = reading.group_name(request)
    number = reading.path_number(request, ImportNotFoundError)
    reading.options(request)
    return reply(await context.run(_show, context, name, number))


def _show(context: Context, name: str, number: int) -> ImportJson:
    with context.database.read() as conn:
        return import_json(get_import(conn, get_group(conn, name), number))


async def show_rejects(context: Context, request: Request) -> Response:
    """List the rows that an import rejected."""
    name = reading.group_name(request)
    number = reading.path_number(request, ImportNotFoundError)
    given = reading.options(request, "limit", "cursor")
    limit = reading.page_limit(given)
    return reply(await context.run(_rejects, context, name, number, limit, given.get("cursor")))


def _rejects(context: Context, name: str, number: int, limit: int, cursor: str | None) -> RejectListJson:
    with context.database.read() as conn:
        page = list_rejects(conn, get_group(conn, name), number, limit, cursor)
        return {"rejects": [reject_json(reject) for reject in page.items], "cursor": page.cursor}


_ON_ERROR: Final = Parameter(
    "on_error",
    "query",
    "`fail`: one rejected row and nothing is published; `skip`: rejected rows are listed, the rest is published",
    {"type": "string", "enum": ["fail", "skip"], "default": "fail"},
)
_RUNTIME: Final = Parameter(
    "x-model-runtime",
    "header",
    "of all rows, where the file has no `runtime` column",
    {"type": "string", "enum": list(RUNTIMES)},
)

OPERATIONS: Final = (
    Operation(
        "POST",
        "/v1/groups/{group}/models/bulk",
        "importModels",
        "imports",
        "Import many models from one Parquet file",
        (
            Answer(
                202,
                "the import, under way",
                ImportJson,
                headers={"location": "path of the import"},
                leads=Lead(
                    "/v1/groups/{group}/imports/{number}",
                    {"group": "$request.path.group", "number": "$response.body#/import"},
                ),
            ),
        ),
        upload,
        description="One row a model: the key columns as strings (null: a partial key), `model` binary, `runtime`"
        " string, and optionally the maps `tags`, `metrics`, `provenance`. Sending the same file again while its import"
        " is under way answers that import.",
        parameters=(GROUP, _ON_ERROR, _RUNTIME),
        payload=Payload(
            "a Parquet file", media=(PARQUET, "application/octet-stream"), schema={"type": "string", "format": "binary"}
        ),
        problems=("group_not_found", "parquet_invalid", "upload_too_large", "body_too_large", "unsupported_media_type"),
    ),
    Operation(
        "GET",
        "/v1/groups/{group}/imports",
        "listImports",
        "imports",
        "List the imports of a group",
        (Answer(200, "imports, newest first", ImportListJson),),
        list_all,
        parameters=(GROUP,),
        problems=("group_not_found",),
    ),
    Operation(
        "GET",
        "/v1/groups/{group}/imports/{number}",
        "getImport",
        "imports",
        "Show how far an import is",
        (Answer(200, "the import", ImportJson),),
        show,
        parameters=(GROUP, NUMBER),
        problems=("group_not_found", "import_not_found"),
    ),
    Operation(
        "GET",
        "/v1/groups/{group}/imports/{number}/rejects",
        "listRejects",
        "imports",
        "List the rows that an import rejected",
        (Answer(200, "a page of rejects in row order", RejectListJson),),
        show_rejects,
        parameters=(GROUP, NUMBER, LIMIT, CURSOR),
        problems=("group_not_found", "import_not_found", "cursor_invalid"),
    ),
)
