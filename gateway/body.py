"""Reading request bodies within a limit, before anything is parsed.

A body is refused by its declared length before a byte of it is read, and by its real length as it arrives, so memory
stays within the limit whatever the sender says.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from gateway.errors import BodyTooLargeError, ParameterInvalidError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


class ClientDisconnectedError(Exception):
    """The client went away while sending; there is nobody to answer."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLargeError: as soon as more than `limit` bytes have arrived.
        ClientDisconnectedError: if the client leaves first.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnectedError
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        body = await _read_rest(receive, body, limit)
    if len(body) > limit:
        raise too_large(limit)
    return body


def check_declared_length(headers: Headers, limit: int) -> None:
    """Refuse a body by its Content-Length.

    Raises:
        BodyTooLargeError: if it declares more than `limit` bytes.
    """
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit():
                raise ParameterInvalidError("Content-Length is no number", field="content-length")
            if int(value) > limit:
                raise too_large(limit)
            return


def too_large(limit: int) -> BodyTooLargeError:
    """The refusal of a body over `limit` bytes."""
    return BodyTooLargeError(
        f"the body is over {limit:,} bytes; send fewer rows, or an Arrow stream "
        "(content-type application/vnd.apache.arrow.stream), which may be larger"
    )


def header(headers: Headers, name: bytes) -> bytes:
    """A header's value, empty if absent. ASGI header names are lower case."""
    for given, value in headers:
        if given == name:
            return value
    return b""


async def _read_rest(receive: Receive, first: bytes, limit: int) -> bytes:
    # One growing buffer: a list of one-byte chunks would cost 60 bytes a byte.
    buffer = bytearray(first)
    more = True
    while more:
        if len(buffer) > limit:
            raise too_large(limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        buffer += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(buffer)
