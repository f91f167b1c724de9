"""uvicorn's HTTP protocol with two short cuts for small answers.

A predict, or a gateway's calls to a worker, that needs no waiting is answered where its last byte was read: no task, no
ASGI messages and one write. What cannot be answered so (a cold model, a long body, a pipelined request whose
predecessor is under way) takes uvicorn's ordinary way to the same application, which answers everything.

On the ordinary way uvicorn hands the head and the body of an answer to the socket apart, at a system call each. Here
the head is held until the body follows, which for a whole answer is within the same step of the event loop. Should
nothing follow, the loop's next step sends it, so a streamed answer begins no later than it would have.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.reply import Header, Later, Reply
from gateway.stalls import WatchedProtocol

log = logging.getLogger("manymodels.gateway")

_HEAD: Final = b"HTTP/1.1 "
JOINED_BYTES: Final = 64 * 1024  # a longer body is handed over beside its head: to copy it would cost more
PROMPT_BYTES: Final = 64 * 1024  # a longer body takes the ordinary way, which reads within limits and may wait


# Headers and body -> the answer, now or later; None if it takes the ordinary way.
PromptRoute = Callable[[list[Header], bytes], Reply | Later | None]


class PromptFront(Protocol):
    """What the application offers beside ASGI."""

    def prompt_route(self, path: bytes) -> PromptRoute | None:
        """What may answer a POST to this path on the spot; None if nothing does."""


class HeadHolder:
    """A transport that sends the head of an answer together with what is written next. For one event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        """Everything but writing and closing is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, or hold if it is a head."""
        held = self._held
        if held is not None:
            self._held = None
            if len(data) > JOINED_BYTES:
                self._transport.writelines((held, data))
            else:
                self._transport.write(held + data)
        elif data.startswith(_HEAD):
            self._held = data
            self._loop.call_soon(self.flush)
        else:
            self._transport.write(data)

    def write_whole(self, data: bytes) -> None:
        """Send an answer that is complete."""
        if self._held is not None:
            self.flush()
        self._transport.write(data)

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what is held."""
        held, self._held = self._held, None
        if held is not None and not self._transport.is_closing():
            self._transport.write(held)


class _Awaited:
    """Stands where uvicorn keeps the request under way, for one whose answer comes later.

    What uvicorn does to a request under way (queue others behind it, have its connection closed after it, tell it that
    its client left) it does to this.
    """

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.response_complete = False
        self.keep_alive = True
        self.disconnected = False
        self.message_event = _NOBODY


class _Nobody:
    """An event that nobody waits for."""

    def set(self) -> None:
        """Tell nobody."""


_NOBODY: Final = _Nobody()


class PromptProtocol(WatchedProtocol):
    """uvicorn's protocol, which answers what it can on the spot. The application must be a `PromptFront`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._front = cast("PromptFront", self.config.app)
        self._route: PromptRoute | None = None  # of the request whose body is being collected
        self._collected = b""
        self._answered_at = 0.0  # when the last prompt answer was written, by the loop's clock
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as it is called
        """See `asyncio.Protocol.connection_made`."""
        self._holder = HeadHolder(transport, self.loop)
        super().connection_made(self._holder)  # type: ignore[arg-type] # stands in for one
        self._answered_at = self.loop.time()  # of nothing yet: who asks nothing is closed as if it had been answered
        self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._idle_due)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol.connection_lost`."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.request_began()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Collect the body of what may be answered promptly; start anything else the ordinary way."""
        self.head_is_whole()
        self._route = self._prompt_route()
        if self._route is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a piece of a body."""
        self._unfinished = 0
        if self._route is None:
            super().on_body(body)
            return
        self._collected = self._collected + body if self._collected else body
        if len(self._collected) > PROMPT_BYTES:
            self._go_ordinary_way()

    def on_message_complete(self) -> None:
        """Answer on the spot, or have it answered."""
        self.request_is_whole()
        if self._route is not None:
            answer = self._answer(self._route)
            if answer is not None:
                self._route, self._collected = None, b""
                if isinstance(answer, Later):
                    self._await(answer)
                else:
                    self._holder.write_whole(answer.wire)
                    self._answered_promptly()
                return
            self._go_ordinary_way()
        super().on_message_complete()

    def shutdown(self) -> None:
        """A request that is half read is answered before its connection closes, as on the ordinary way."""
        if self._route is not None:
            self._go_ordinary_way()
        super().shutdown()

    def on_response_complete(self) -> None:
        """After an answer on the ordinary way."""
        self._open -= 1
        super().on_response_complete()

    def _answered_promptly(self) -> None:
        """As `on_response_complete` for an answer that nothing was queued behind, but for the timer.

        To set one after each answer and cancel it at the next request costs more than parsing a request: here one
        timer stays set, and looks at the clock when it is due.
        """
        self._open -= 1
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._idle_due)

    def _idle_due(self) -> None:
        """Close a connection that was answered promptly and then asked nothing for long."""
        self._idle_timer = None
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if self.timeout_keep_alive_task is not None:
            return  # an ordinary answer came since, and has its own timer
        if self._open or left > 0.001:
            self._idle_timer = self.loop.call_later(max(left, 1.0), self._idle_due)
        elif not self._holder.is_closing():
            self._holder.close()

    def _prompt_route(self) -> PromptRoute | None:
        route = self._front.prompt_route(self.url)
        if route is None:
            return None
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return None
        if self.expect_100_continue or self.flow.write_paused or parser.should_upgrade():
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return None
        return route

    def _await(self, later: Later) -> None:
        awaited = _Awaited()
        self.cycle = cast("RequestResponseCycle", awaited)
        later.begun.add_done_callback(partial(self._arrived, awaited, later.make))

    def _arrived(
        self, awaited: _Awaited, make: Callable[["asyncio.Future[Any]"], Reply], begun: "asyncio.Future[Any]"
    ) -> None:
        """Send an answer that was awaited."""
        reply = make(begun)
        awaited.response_complete = True
        if awaited.disconnected or self._holder.is_closing():
            self._open -= 1
        elif not awaited.keep_alive:
            self._open -= 1
            self._holder.write_whole(reply._replace(more=[*reply.more, (b"connection", b"close")]).wire)
            self._holder.close()
        else:
            self._holder.write_whole(reply.wire)
            if self.pipeline:
                self.on_response_complete()
            else:
                self._answered_promptly()

    def _answer(self, route: PromptRoute) -> Reply | Later | None:
        try:
            return route(self.headers, self._collected)
        except Exception:
            # The ordinary way meets the same failure and tells the caller of it by its id.
            log.exception("a request could not be answered on the spot")
            return None

    def _go_ordinary_way(self) -> None:
        collected = self._collected
        self._route, self._collected = None, b""
        super().on_headers_complete()
        if collected:
            super().on_body(collected)
