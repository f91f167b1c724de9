"""The front door as one ASGI callable: data routes raw, everything else through Starlette's router."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from gateway.body import ClientDisconnectedError, Message, Receive, Scope, Send
from gateway.context import Context
from gateway.control.table import control_routes
from gateway.data.plane import DataPlane
from gateway.hop import HopPlane
from gateway.metrics import other_answered
from gateway.problems import on_disconnect, on_failure, on_http_exception, on_problem
from gateway.protocol import PromptRoute
from gateway.reply import Header, Later, Reply
from gateway.request_ids import RequestIds
from registry.errors import Problem

_PREFIX: Final = "/v1/groups/"
_PREDICT: Final = "/predict"
_BULK: Final = "/predict/bulk"
_INTERNAL: Final = "/internal/"
# Whole and plain: what is percent-encoded or has a query is read by the ordinary way alone.
_PROMPT: Final = re.compile(rb"/v1/groups/([A-Za-z0-9._-]+)/predict")
_FIRST: Final = re.compile(r"/(?:v1/)?[a-z.]*")


class Front:
    """The ASGI application of one process."""

    def __init__(self, context: Context) -> None:
        self._role = context.role
        self._data = DataPlane(context)
        self._hop = HopPlane(context) if context.role.scores else None
        self._draining = context.draining
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

    def prompt_route(self, path: bytes) -> PromptRoute | None:
        """What may answer a POST to this path without waiting; None if nothing does."""
        if self._hop is not None:
            hop = self._hop.prompt_route(path)
            if hop is not None:
                return hop
        if self._role.predicts:
            predict = _PROMPT.fullmatch(path)
            if predict is not None:
                return partial(self.prompt_answer, predict[1].decode())
        return None

    def is_busy(self) -> bool:
        """Whether callers had to wait when this process looked last."""
        return self._data.is_busy

    def prompt_answer(self, group: str, headers: list[Header], body: bytes) -> Reply | Later | None:
        """The answer to a predict with this body: at once if it needs no waiting, later if another process gives it.

        None decides nothing: the same request, called as ASGI, is answered in full.
        """
        if self._draining.is_set():
            return None  # that way ends with a connection that closes
        return self._data.predict_now(group, headers, body, self._ids.of(headers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._control(scope, receive, send)
            return
        path: str = scope["path"]
        request_id = self._ids.of(scope["headers"])
        if scope["method"] == "POST" and path.startswith(_INTERNAL) and self._hop is not None:
            await self._hop.serve(path, scope, receive, send, request_id)
            return
        if scope["method"] == "POST" and path.startswith(_PREFIX) and self._role.predicts:
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
