"""A relay before servers: it makes them reachable elsewhere, and can damage what they answer on its way."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Self

# A piece of an answer, and how many bytes of that answer came before it -> what is passed on in its place; after
# something shorter the connection ends.
Tampering = Callable[[bytes, int], bytes]


class Relay:
    """Servers on loopback, reached at an address that networks see: what a port there is sent goes to one here."""

    def __init__(self, host: str, ports: Mapping[str, int], tamper: Tampering | None = None) -> None:
        """`ports` are those of the servers, by name; `tamper` may change what they answer."""
        self._host = host
        self._targets = ports
        self._tamper = tamper
        self.ports: dict[str, int] = {}
        self._listening, self._ending = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10), "a relay does not listen"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as servers:
            for name, target in self._targets.items():
                server = await servers.enter_async_context(
                    await asyncio.start_server(self._relaying(target), self._host, 0)
                )
                self.ports[name] = server.sockets[0].getsockname()[1]
            self._listening.set()
            await self._ending.wait()

    def _relaying(self, target: int):  # type: ignore[no-untyped-def]
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
            except OSError:
                writer.close()
                return
            line = _Line(self._tamper)
            await asyncio.gather(_pump(reader, there_writer, line.asked), _pump(there_reader, writer, line.answered))

        return relay


class _Line:
    """What came over one connection."""

    def __init__(self, tamper: Tampering | None) -> None:
        self._tamper = tamper
        self._came = 0  # bytes of the answer to what was asked last

    def asked(self, data: bytes) -> bytes:
        self._came = 0
        return data

    def answered(self, data: bytes) -> bytes:
        came, self._came = self._came, self._came + len(data)
        return data if self._tamper is None else self._tamper(data, came)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: Callable[[bytes], bytes]) -> None:
    """Pass on what comes, until nothing does or something is passed on only in part."""
    try:
        while data := await reader.read(1 << 16):
            passed = passing(data)
            writer.write(passed)
            await writer.drain()
            if len(passed) < len(data):
                break
    except ConnectionError:
        pass
    finally:
        writer.close()
