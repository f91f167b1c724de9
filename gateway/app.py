"""The front door as one ASGI callable: data routes raw, everything else through Starlette's router."""

import re
from collections.abc import Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from gateway.body import ClientDisconnectedError, Message, Receive, Scope, Send
from gateway.context import Context
from gateway.control.table import control_routes
from gateway.data.plane import DataPlane
from gateway.metrics import other_answered
from gateway.problems import on_disconnect, on_failure, on_http_exception, on_problem
from gateway.reply import Header, Reply
from gateway.request_ids import RequestIds
from registry.errors import Problem

_PREFIX: Final = "/v1/groups/"
_PREDICT: Final = "/predict"
_BULK: Final = "/predict/bulk"
_FIRST: Final = re.compile(r"/(?:v1/)?[a-z.]*")


class Front:
    """The ASGI application of one process."""

    def __init__(self, context: Context) -> None:
        self._data = DataPlane(context)
        self._ids = RequestIds()
        handlers: dict[Any, Callable[..., Any]] = {
            Problem: on_problem,
            HTTPException: on_http_exception,
            ClientDisconnectedError: on_disconnect,
            Exception: on_failure,
        }
        self._control = Starlette(routes=control_routes(context), exception_handlers=handlers)
        # Its redirects would repeat whatever host the request names; a path with one slash too many is no route.
        self._control.router.redirect_slashes = False

    def prompt_answer(self, group: str, headers: list[Header], body: bytes) -> Reply | None:
        """The answer to a predict with this body, if it can be given without waiting.

        None decides nothing: the same request, called as ASGI, is answered in full.
        """
        return self._data.predict_now(group, headers, body, self._ids.of(headers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._control(scope, receive, send)
            return
        path: str = scope["path"]
        request_id = self._ids.of(scope["headers"])
        if scope["method"] == "POST" and path.startswith(_PREFIX):
            if path.endswith(_PREDICT):
                await self._data.predict(path[len(_PREFIX) : -len(_PREDICT)], scope, receive, send, request_id)
                return
            if path.endswith(_BULK):
                await self._data.bulk(path[len(_PREFIX) : -len(_BULK)], scope, receive, send, request_id)
                return
        await self._other(path, scope, receive, send, request_id)

    async def _other(self, path: str, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        first = _FIRST.match(path)
        route = first.group() if first else "/"

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
                other_answered(route if message["status"] != 404 else "unknown", message["status"])
            await send(message)

        scope.setdefault("state", {})["request_id"] = request_id.decode()
        await self._control(scope, receive, send_named)
