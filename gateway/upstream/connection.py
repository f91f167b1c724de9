"""One keep-alive HTTP/1.1 connection to a worker: one request at a time, its answer whole.

A general client spends more on a request than a worker on its answer. Both ends of this hop are ours, so what is sent
is one write of a few fixed headers; what comes back is parsed by httptools, as everywhere in this house.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import httptools

MOST_ANSWER: Final = 1 << 30  # bytes of an answer


class ConnectionLostError(Exception):
    """The connection ended, or was given up, before a whole answer came. Says whether the request may have arrived."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Connection(asyncio.Protocol):
    """Made by `open_connection`. For one event loop.

    Attributes:
        closing: whether the other end closes after its last answer, or has; then it is never used again.
    """

    def __init__(self, host: str, on_lost: Callable[["Connection"], None]) -> None:
        self._host = host.encode()
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._size = 0
        self.closing = False

    @property
    def is_busy(self) -> bool:
        """Whether an answer is awaited."""
        return self._answer is not None

    def request(self, path: bytes, body: bytes, more: bytes = b"") -> "asyncio.Future[tuple[int, bytes]]":
        """Send a POST; its status and body come in the future, or ConnectionLostError.

        `more` is further header lines, each with its end.
        """
        assert self._answer is None, "one request at a time"
        assert self._transport is not None, "an open connection"
        self._answer = asyncio.get_running_loop().create_future()
        self._parts, self._size = [], 0
        head = b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-length: %d\r\n%b\r\n" % (path, self._host, len(body), more)
        if len(body) > 65536:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)
        return self._answer

    def give_up(self, why: str) -> None:
        """Close at once; whoever waits for an answer is told why."""
        self.closing = True
        self._fail(why)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. What is no answer ends the connection."""
        if self._answer is None:
            self.give_up("it spoke unasked")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.give_up(f"its answer is no HTTP: {error}")

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self.closing = True

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.closing = True
        self._fail(f"the connection was lost: {exc}" if exc else "the connection was closed")
        self._on_lost(self)

    def on_body(self, body: bytes) -> None:
        """A piece of a body, by httptools."""
        self._size += len(body)
        self._parts.append(body)
        if self._size > MOST_ANSWER:
            self.give_up("its answer is too large")

    def on_message_complete(self) -> None:
        """The end of an answer, by httptools."""
        answer, self._answer = self._answer, None
        if not self._parser.should_keep_alive():
            self.closing = True
            if self._transport is not None:
                self._transport.close()
        status = self._parser.get_status_code()
        if answer is not None and not answer.done():
            answer.set_result((status, self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)))

    def _fail(self, why: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(ConnectionLostError(why, sent=True))


async def open_connection(host: str, port: int, seconds: float, on_lost: Callable[[Connection], None]) -> Connection:
    """Connect within so many seconds.

    Raises:
        ConnectionLostError: if that fails; nothing was sent.
    """
    loop = asyncio.get_running_loop()
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(lambda: Connection(shown, on_lost), host, port)
    except (OSError, TimeoutError) as error:
        why = f"it cannot be reached within {seconds:g} s" if isinstance(error, TimeoutError) else f"{error}"
        raise ConnectionLostError(why, sent=False) from error
    return connection
