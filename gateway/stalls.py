"""uvicorn's HTTP protocol with an end to its patience: heads that are too large, and callers who do not get on.

uvicorn waits for the rest of a request, and for its answer to be read, as long as the caller likes; whoever opens many
connections and goes on with none of them holds memory and descriptors for ever. Here a head must be whole ten seconds
after it began, a body and the reading of an answer may take ten seconds and a second for each thousand bytes (as
Apache's mod_reqtimeout, https://httpd.apache.org/docs/2.4/mod/mod_reqtimeout.html). Time that the application itself
takes to read a body does not count. A connection is looked at only while something is half done.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_BYTES: Final = 64 * 1024  # of a head or a trailer; the parser itself takes any number
MOST_HEADERS: Final = 256
STALL_SECONDS: Final = 10.0
LEAST_RATE: Final = 1000.0  # bytes a second
LOOK_SECONDS: Final = 1.0
_TOO_LARGE: Final = "The head of the request is too large."


class HeadTooLargeError(Exception):
    """The head of a request is over a limit."""


class WatchedProtocol(HttpToolsProtocol):
    """Gives up callers who do not get on. Whoever extends it says when a request begins and is whole."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._half_read = False  # between the beginning of a request and its last byte
        self._request_bytes = 0
        self._unfinished = 0  # bytes received since a head, a piece of a body or a request was whole
        self._requests = 0  # that have begun
        self._open = 0  # requests that have begun and are not answered yet
        self._watch: asyncio.TimerHandle | None = None
        self._watched = 0  # the request that is watched
        self._since = 0.0  # when that began to be watched
        self._stuck_since = 0.0  # when the caller stopped reading
        self._stuck_bytes = 0  # of answers that waited then
        self._too_large = False

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol.data_received`. Refuses a head that does not end."""
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished:
            if self._unfinished > HEAD_BYTES and not self.transport.is_closing():
                self._refuse(431, _TOO_LARGE)
                return
            self._begin_watch()
        elif self._half_read:
            self._request_bytes += len(data)
            self._begin_watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol.connection_lost`."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol.pause_writing`."""
        super().pause_writing()
        self._stuck_since, self._stuck_bytes = self.loop.time(), self.transport.get_write_buffer_size()
        self._begin_watch()

    def request_began(self) -> None:
        """A request begins."""
        self._half_read, self._request_bytes = True, 0
        self._requests += 1
        self._open += 1

    def head_is_whole(self) -> None:
        """A head is whole.

        Raises:
            HeadTooLargeError: if it is over a limit; the parser stops at it, and `send_400_response` tells the caller.
        """
        large = len(self.headers) > MOST_HEADERS
        if large or (self._unfinished > HEAD_BYTES and self._head_bytes() > HEAD_BYTES):
            self._too_large = True
            raise HeadTooLargeError
        self._unfinished = 0

    def request_is_whole(self) -> None:
        """The last byte of a request came."""
        self._half_read, self._unfinished = False, 0

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or one whose head is too large."""
        if self._too_large:
            self._refuse(431, _TOO_LARGE)
        elif not self.transport.is_closing():
            super().send_400_response(msg)

    def _refuse(self, status: int, said: str) -> None:
        """Answer with a status and close."""
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(said)
        self.transport.write(STATUS_LINE[status] + head + said.encode())
        self.transport.close()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _begin_watch(self) -> None:
        if self._watch is None:
            self._watched, self._since = self._requests, self.loop.time()
            self._watch = self.loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Give up a caller who does not get on; stop looking when nothing is half done."""
        self._watch = None
        if self.transport.is_closing():
            return
        now = self.loop.time()
        if self.flow.write_paused:
            read = max(0, self._stuck_bytes - self.transport.get_write_buffer_size())
            if now - self._stuck_since > STALL_SECONDS + read / LEAST_RATE:
                self.transport.abort()
                return
        elif not self._half_read and not self._unfinished:
            return
        elif self._watched != self._requests or self.flow.read_paused or self._open > 1:
            self._watched, self._since = self._requests, max(self._since + LOOK_SECONDS, now - LOOK_SECONDS)
        elif now - self._since > STALL_SECONDS + (0.0 if self._unfinished else self._request_bytes / LEAST_RATE):
            self._give_up()
            return
        self._watch = self.loop.call_later(LOOK_SECONDS, self._look)

    def _give_up(self) -> None:
        """Tell a caller whose request does not come, unless that was answered already, and close."""
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete and getattr(cycle, "response_started", False)
        if answering or (self._half_read and not self._open):
            self.transport.abort()
        else:
            self._refuse(408, "The request did not come in time.")
