"""A whole answer, and its two ways out: as ASGI messages, or as the bytes of an HTTP/1.1 response."""

from typing import NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.body import Send

Header = tuple[bytes, bytes]


class Reply(NamedTuple):
    """An answer that needs nothing more.

    Attributes:
        headers: all of them, names in lower case.
    """

    status: int
    headers: list[Header]
    body: bytes

    @classmethod
    def of(cls, status: int, body: bytes, media_type: bytes, request_id: bytes) -> "Reply":
        """An answer with the headers that all answers of the data plane have."""
        headers = [
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id),
        ]
        return cls(status, headers, body)

    @property
    def wire(self) -> bytes:
        """The response as HTTP/1.1 sends it on a connection that stays open."""
        head = b"".join([b"%b: %b\r\n" % header for header in self.headers])
        return b"%b%b\r\n%b" % (STATUS_LINE[self.status], head, self.body)

    async def send(self, send: Send) -> None:
        """Send it as ASGI."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})
