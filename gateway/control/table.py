"""The route table: every route of the front door, once.

From it come the served control routes, the OpenAPI document, and any check that must hold for each route. Routes of
one path are served by one Starlette route, so that a wrong method is answered with every method that is right.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.context import Context
from gateway.control import (
    data,
    deployments,
    discovery,
    docs,
    groups,
    holds,
    imports,
    models,
    ops,
    registration,
    releases,
    status,
)
from gateway.control.openapi import render
from gateway.control.operation import Handler, Operation
from gateway.errors import NotFoundError


@cache
def document() -> bytes:
    """The OpenAPI document of the whole table, rendered once a process."""
    return render(TABLE)


TABLE: Final[tuple[Operation, ...]] = (
    *groups.OPERATIONS,
    *registration.OPERATIONS,
    *models.OPERATIONS,
    *imports.OPERATIONS,
    *releases.OPERATIONS,
    *deployments.OPERATIONS,
    *holds.OPERATIONS,
    *data.OPERATIONS,
    *discovery.OPERATIONS,
    *status.OPERATIONS,
    *ops.OPERATIONS,
    *docs.operations(document),
)


# What every service of a cluster answers; a worker is asked for predicts besides, which the front serves itself.
_EVERYWHERE: Final = frozenset({"discovery", "operations"})


def control_routes(context: Context) -> list[BaseRoute]:
    """The routes of one process. Data routes stand among them for their 405 alone; the front serves them itself."""
    by_path: dict[str, dict[str, Handler | None]] = {}
    for operation in TABLE:
        if not context.role.controls and operation.tag not in _EVERYWHERE:
            continue
        by_path.setdefault(operation.path, {})[operation.method] = operation.handler
    return [Route(path, _endpoint(context, handlers), methods=list(handlers)) for path, handlers in by_path.items()]


def _endpoint(context: Context, handlers: Mapping[str, Handler | None]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        handler = handlers["GET" if request.method == "HEAD" else request.method]
        if handler is None:
            raise NotFoundError("the data routes are served in front of this router")
        return await handler(context, request)

    return answer
