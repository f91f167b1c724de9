"""A whole answer, and its two ways out: as ASGI messages, or as the bytes of an HTTP/1.1 response."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.body import Send

Header = tuple[bytes, bytes]


class Reply(NamedTuple):
    """An answer that needs nothing more.

    Attributes:
        more: headers besides those that every answer of the data plane has, names in lower case.
    """

    status: int
    body: bytes
    media_type: bytes
    request_id: bytes
    more: Sequence[Header] = ()

    @property
    def headers(self) -> list[Header]:
        """All headers."""
        return [
            (b"content-type", self.media_type),
            (b"content-length", b"%d" % len(self.body)),
            (b"x-request-id", self.request_id),
            *self.more,
        ]

    @property
    def wire(self) -> bytes:
        """The response as HTTP/1.1 sends it on a connection that stays open."""
        status, body, media_type, request_id, more = self
        return b"%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b" % (
            STATUS_LINE[status],
            media_type,
            len(body),
            request_id,
            b"".join([b"%b: %b\r\n" % header for header in more]) if more else b"",
            body,
        )

    async def send(self, send: Send) -> None:
        """Send it as ASGI."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class Later(NamedTuple):
    """An answer that is on its way.

    Attributes:
        begun: done when what it needs is here, or cannot be had.
        make: what the answer is then; called once, whether or not anybody still waits for it.
    """

    begun: "asyncio.Future[Any]"
    make: "Callable[[asyncio.Future[Any]], Reply]"
