"""The hop on HTTP: where a worker answers a gateway, on the same port as everything else.

Calls that need no waiting are answered by the protocol where their last byte was read; the others as ASGI, within the
deadline that the gateway names. Problems that belong to one call travel in its frame; only a request that is no hop at
all, or that comes to a process too busy for it, is refused as a whole.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from gateway.body import ClientDisconnectedError, Receive, Scope, Send, declared_body, read_body
from gateway.context import Context
from gateway.errors import NotFoundError
from gateway.problems import refusal
from gateway.protocol import PromptRoute
from gateway.reply import Header, Reply
from workers.errors import OverloadedError
from workers.hop.frames import MEDIA_TYPE
from workers.hop.routes import ALONE, DEADLINE, HEALTH, NOW, RELUCTANT, RESOLVE, WELL
from workers.hop.serving import HopDesk

_FRAMES: Final = MEDIA_TYPE.encode()
_NO_ID: Final = b"-"


class HopPlane:
    """Answers hops of one process. Lives on its event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._desk = HopDesk(context.worker, context.holdings)
        self._under_way = 0
        self._limit = context.settings.max_hops_in_flight
        self._bytes = context.settings.hop_body_bytes
        self._prompt: dict[bytes, Callable[[list[Header], bytes], Reply]] = {NOW: self._now, HEALTH: self._health}
        self._waiting: dict[bytes, Callable[[bytes, float], Awaitable[bytes]]] = {
            ALONE: self._desk.answer,
            RESOLVE: self._resolve,
        }

    def prompt_route(self, path: bytes) -> PromptRoute | None:
        """What answers a path without waiting; nothing while this process drains, so that its connections close."""
        return None if self._context.draining.is_set() else self._prompt.get(path)

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        """Answer a request below `/internal/`."""
        try:
            reply = await self._answer(path.encode(), scope, receive, request_id)
        except ClientDisconnectedError:
            return
        except Exception as error:  # noqa: BLE001 - told to the gateway, and logged where it is ours
            reply = refusal(error, request_id)
        await reply.send(send)

    async def _answer(self, path: bytes, scope: Scope, receive: Receive, request_id: bytes) -> Reply:
        headers: list[Header] = scope["headers"]
        declared_body(headers).check_length(self._bytes)
        body = await read_body(receive, self._bytes)
        prompt, waiting = self._prompt.get(path), self._waiting.get(path)
        if prompt is not None:
            return prompt(headers, body)
        if waiting is None:
            raise NotFoundError("there is no such route")
        if self._under_way >= self._limit:
            raise OverloadedError(f"{self._limit} calls are under way in this process; try again in a moment")
        self._under_way += 1
        try:
            return Reply(200, await waiting(body, self._seconds(headers)), _FRAMES, request_id)
        finally:
            self._under_way -= 1

    def _now(self, _headers: list[Header], body: bytes) -> Reply:
        try:
            return Reply(200, self._desk.answer_now(body), _FRAMES, _NO_ID)
        except Exception as error:  # noqa: BLE001 - told to the gateway, and logged where it is ours
            return refusal(error, _NO_ID)

    def _health(self, _headers: list[Header], _body: bytes) -> Reply:
        willing = self._context.ready() and not self._context.draining.is_set()
        return Reply(200, WELL if willing else RELUCTANT, _FRAMES, _NO_ID)

    async def _resolve(self, body: bytes, _seconds: float) -> bytes:
        return await self._desk.resolve(body)

    def _seconds(self, headers: list[Header]) -> float:
        """How long the gateway waits."""
        for name, value in headers:
            if name == DEADLINE and value.isdigit() and len(value) < 10:
                return int(value) / 1000
        return self._context.settings.request_seconds
