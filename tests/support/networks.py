"""A network of this machine that can be cut: a namespace of its own behind a pair of virtual cables.

What is sent into a cut is lost without a word, as in a real network: it goes to a hardware address that nobody has.
"""

import asyncio
import itertools
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from shutil import which
from typing import Self

import pytest

from deploy.local.programs import MissingError

NOBODY = "02:00:00:00:00:99"
_numbers = itertools.count()


class Network:
    """One place that others reach at `address`, and that reaches this machine at `host`."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.name = f"mm{os.getpid()}n{number}"
        self._outer, self._inner = f"mo{os.getpid()}n{number}", f"mi{os.getpid()}n{number}"
        net = f"10.{64 + os.getpid() % 64}.{(os.getpid() // 64) % 256}"
        self.host, self.address = f"{net}.{4 * number + 1}", f"{net}.{4 * number + 2}"

    @property
    def within(self) -> tuple[str, ...]:
        """What a command begins with to run there."""
        return ("ip", "netns", "exec", self.name)

    def make(self) -> None:
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self._outer, "type", "veth", "peer", "name", self._inner, "netns", self.name)
        _run("ip", "address", "add", f"{self.host}/30", "dev", self._outer)
        _run("ip", "link", "set", self._outer, "up")
        _run("ip", "-n", self.name, "address", "add", f"{self.address}/30", "dev", self._inner)
        _run("ip", "-n", self.name, "link", "set", self._inner, "up")
        _run("ip", "-n", self.name, "link", "set", "lo", "up")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._outer], check=False, capture_output=True)

    def cut(self, *, there: bool = True, back: bool = True) -> None:
        """Lose what is sent there, what comes back, or both."""
        if there:
            _run("ip", "neighbour", "replace", self.address, "lladdr", NOBODY, "dev", self._outer)
        if back:
            _run("ip", "-n", self.name, "neighbour", "replace", self.host, "lladdr", NOBODY, "dev", self._inner)

    def heal(self) -> None:
        """Lose nothing any more."""
        for where, address, device in (
            ((), self.address, self._outer),
            (("-n", self.name), self.host, self._inner),
        ):
            command = ["ip", *where, "neighbour", "del", address, "dev", device]
            subprocess.run(command, check=False, capture_output=True)  # where there was no cut there is nothing


@contextmanager
def network() -> Iterator[Network]:
    """A network, until the context is left; without the rights to make one the test is skipped."""
    if which("ip") is None:
        if os.environ.get("CI"):
            raise MissingError("there is no ip: `apt install iproute2`")
        pytest.skip("there is no ip: `apt install iproute2`")
    made = Network()
    try:
        made.make()
    except subprocess.CalledProcessError as error:
        made.remove()
        pytest.skip(f"networks may not be made here: {error.stderr.decode().strip()}")
    try:
        yield made
    finally:
        made.remove()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Relay:
    """Servers on loopback, reached at an address that networks see: what a port there is sent goes to one here."""

    def __init__(self, host: str, ports: Mapping[str, int]) -> None:
        self._host = host
        self._targets = ports
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
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))

        return relay


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
