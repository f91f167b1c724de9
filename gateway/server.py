"""One serving process: an event loop, uvicorn over a shared listening socket, and the parts behind it.

Processes of one home share the socket their parent listens on, so that a process that dies loses only what it had
accepted. Everything heavy happens before readiness is told.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from multiprocessing.synchronize import Event
from types import FrameType
from typing import Final

import uvicorn

from gateway.app import Front
from gateway.assembly import Assembly
from gateway.newcomers import Newcomers
from gateway.protocol import PromptProtocol
from gateway.roles import Role
from gateway.settings import Settings
from registry.home import Home

log = logging.getLogger("manymodels.gateway")

KEEP_ALIVE_SECONDS: Final = 75
SWITCH_SECONDS: Final = 0.0005
COLLECT_AFTER: Final = (50_000, 20, 50)


def run_server(role: Role, home: Home, settings: Settings, listener: socket.socket, uri: str, ready: Event) -> None:
    """Serve until SIGTERM, then finish what is under way."""
    share_the_interpreter()
    assembly = Assembly(home, settings, role, uri=uri)
    server = DrainingServer(assembly, settings)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(assembly, server, listener, ready))


def share_the_interpreter() -> None:
    """Keep predicts quick beside large batches, whose threads want the same interpreter.

    A thread is asked to give it up after half a millisecond instead of five. What the libraries made at import is
    never garbage, and the rows of a batch are no cycles: the collector looks at them rarely, not at each few hundred.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


class DrainingServer(uvicorn.Server):
    """A uvicorn server that tells the house before it stops."""

    def __init__(self, assembly: Assembly, settings: Settings) -> None:
        self._front = Front(assembly.context)
        super().__init__(
            uvicorn.Config(
                self._front,
                http=PromptProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=settings.drain_seconds,
            )
        )
        self._assembly = assembly
        self._spread_seconds = settings.spread_seconds
        self._newcomers: Newcomers | None = None

    def stop_by_signal(self) -> None:
        """Stop at SIGTERM and SIGINT, and go on after that to leave the house.

        While it serves uvicorn takes both signals, and raises them again when it is done: what they find then must not
        end the process.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections, and all that wait whenever this process has much to do."""
        await super().startup(sockets)
        if sockets:
            self._newcomers = Newcomers(sockets[0], self._front.is_busy, self._protocol)
            self._newcomers.start()

    def _protocol(self) -> PromptProtocol:
        return PromptProtocol(self.config, self.server_state, self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave the picture first, then let requests under way finish.

        While that spreads, whoever asks is answered, on a connection that closes with the answer: so a caller that
        keeps connections learns of it by an answer, and not by a request that meets a closed one.
        """
        state = self.server_state
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        await asyncio.to_thread(self._assembly.drain)
        await asyncio.sleep(self._spread_seconds)
        if self._newcomers is not None:
            await self._newcomers.stop()
        await super().shutdown(sockets)


async def _serve(assembly: Assembly, server: DrainingServer, listener: socket.socket, ready: Event) -> None:
    await asyncio.to_thread(assembly.start)
    try:
        server.stop_by_signal()
        ready.set()
        await server.serve(sockets=[listener])
    finally:
        await asyncio.to_thread(assembly.stop)
    log.info("process %d stopped", os.getpid())


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    import uvloop  # noqa: PLC0415 - the offline home never needs it

    return uvloop.Loop
