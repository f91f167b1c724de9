"""One write for a small answer: uvicorn hands the head and the body to the socket apart, at a system call each.

The head is held until the body follows, which for a whole answer is within the same step of the event loop. Should
nothing follow, the loop's next step sends it, so a streamed answer begins no later than it would have.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD: Final = b"HTTP/1.1 "


class HeadHolder:
    """A transport that sends the head of an answer together with what is written next. For one event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        """Everything but writing and closing is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, or hold if it is a head."""
        held = self._held
        if held is not None:
            self._held = None
            self._transport.write(held + data)
        elif data.startswith(_HEAD):
            self._held = data
            self._loop.call_soon(self.flush)
        else:
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


class HeldHeadProtocol(HttpToolsProtocol):
    """uvicorn's protocol over a transport that writes small answers whole."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as it is called
        """See `asyncio.Protocol.connection_made`."""
        super().connection_made(HeadHolder(transport, self.loop))  # type: ignore[arg-type] # stands in for one
