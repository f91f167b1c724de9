"""While steps are long all callers who wait are taken, and else they are left to the loop, which takes one a step."""

import asyncio
import socket
from contextlib import ExitStack

from gateway.newcomers import Newcomers

CALLERS = 40


class Talker(asyncio.Protocol):
    """Says that its caller was taken."""

    def connection_made(self, transport):
        transport.write(b"taken")


def calling(busy):
    """So many callers wait; how many were taken at once, and after that."""

    async def main():
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CALLERS))
            callers = [stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(CALLERS)]
            for caller in callers:
                caller.setblocking(False)
            made = []
            newcomers = Newcomers(listener, lambda: busy, lambda: made.append(1) or Talker())
            newcomers.start()
            await asyncio.sleep(0.05)
            await newcomers.stop()
            loop = asyncio.get_running_loop()
            said = [await loop.sock_recv(caller, 100) for caller in callers] if made else []
            late = stack.enter_context(socket.create_connection(listener.getsockname()))
            await asyncio.sleep(0.05)
            assert late.fileno() > 0
            return len(made), said

    return asyncio.run(main())


def test_after_a_long_step_all_are_taken_and_after_the_end_nobody():
    assert calling(busy=True) == (CALLERS, [b"taken"] * CALLERS)


def test_while_steps_are_short_nobody_is():
    assert calling(busy=False) == (0, [])
