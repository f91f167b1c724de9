"""Reading request bodies within a limit, before anything is parsed.

A body is refused by its declared length before a byte of it is read, and by its real length as it arrives, so memory
stays within the limit whatever the sender says.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, NamedTuple

from gateway.errors import BodyTooLargeError, ParameterInvalidError, UnsupportedMediaTypeError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

_LONGEST: Final = 18  # digits of a Content-Length


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


class DeclaredBody(NamedTuple):
    """What a request's headers say of its body; an absent header is empty."""

    media_type: bytes
    length: bytes
    encoding: bytes

    def check_length(self, limit: int) -> None:
        """Refuse a body by its Content-Length.

        Raises:
            BodyTooLargeError: if it declares more than `limit` bytes.
            ParameterInvalidError: if it declares no number.
        """
        if self.length:
            if not self.length.isdigit():
                raise ParameterInvalidError("Content-Length is no number", field="content-length")
            # Python refuses to read the longest numbers, so the digits are counted first.
            if len(self.length) > _LONGEST or int(self.length) > limit:
                raise too_large(limit)

    def check_encoding(self) -> None:
        """Refuse a compressed body, whose size would be a stranger's to choose. Raises UnsupportedMediaTypeError."""
        if self.encoding not in (b"", b"identity"):
            raise UnsupportedMediaTypeError("bodies with a content-encoding are not taken", field="content-encoding")


def declared_body(headers: Headers) -> DeclaredBody:
    """Read the three headers of a body in one pass. ASGI header names are lower case."""
    media_type = length = encoding = b""
    for name, value in headers:
        if name == b"content-type":
            media_type = value.split(b";", 1)[0].strip().lower()
        elif name == b"content-length":
            length = value
        elif name == b"content-encoding":
            encoding = value
    return DeclaredBody(media_type, length, encoding)


ARROW_STREAM: Final = b"application/vnd.apache.arrow.stream"


def plain_json(headers: Headers) -> bool:
    """Whether the headers declare JSON that is not encoded, in so many words."""
    plain = True
    for name, value in headers:
        if name == b"content-type":
            plain = value == b"application/json"
        elif name == b"content-encoding":
            return False
    return plain


def too_large(limit: int) -> BodyTooLargeError:
    """The refusal of a body over `limit` bytes."""
    return BodyTooLargeError(
        f"the body is over {limit:,} bytes; send fewer rows, or an Arrow stream "
        "(content-type application/vnd.apache.arrow.stream), which may be larger"
    )


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
