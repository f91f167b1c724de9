"""Callers who do not get on are given up, and those who do are not, however slow their line."""

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.protocol import PromptProtocol
from gateway.stalls import HEAD_BYTES, LEAST_RATE, LOOK_SECONDS, MOST_HEADERS, STALL_SECONDS
from tests.support.transport import Recorder

HEAD = b"POST /v1/groups/oj/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
KEEP_ALIVE = 75


class Timed:
    """The running loop with a clock of its own, whose timers are due when a test says so."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self._timers = []
        self.now = 1000.0

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def time(self):
        return self.now

    def call_later(self, delay, call, *arguments):
        handle = asyncio.Handle(call, arguments, self._loop)
        self._timers.append((self.now + delay, handle))
        return handle

    def sleep(self, seconds):
        """Let time pass, a timer at a time."""
        end = self.now + seconds
        while due := sorted((at, id(handle), handle) for at, handle in self._timers if at <= end):
            self.now, _, handle = due[0]
            self._timers = [(at, other) for at, other in self._timers if other is not handle]
            if not handle.cancelled():
                handle._run()
        self.now = end

    @property
    def timers(self):
        return sum(not handle.cancelled() for _, handle in self._timers)


class Front:
    """Answers small bodies on the spot, and begins to read larger ones."""

    def __init__(self):
        self.left = False

    def prompt_route(self, _path):
        return None

    async def __call__(self, scope, receive, send):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left = True
                return
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Caller:
    """One connection."""

    def __init__(self):
        self.loop, self.front, self.transport = Timed(), Front(), Recorder()
        config = uvicorn.Config(
            self.front, log_config=None, access_log=False, lifespan="off", ws="none", timeout_keep_alive=KEEP_ALIVE
        )
        self.protocol = PromptProtocol(config, ServerState(), {}, self.loop)
        self.protocol.connection_made(self.transport)

    async def send(self, data, seconds=0.0):
        self.protocol.data_received(data)
        for _ in range(5):
            await asyncio.sleep(0)
        self.loop.sleep(seconds)

    @property
    def said(self):
        return b"".join(self.transport.writes)


def talking(work):
    async def main():
        caller = Caller()
        await work(caller)
        caller.protocol.connection_lost(None)
        for _ in range(5):
            await asyncio.sleep(0)
        return caller

    return asyncio.run(main())


def test_a_head_that_comes_byte_by_byte_is_given_up_after_ten_seconds():
    async def work(caller):
        for at in range(int(STALL_SECONDS)):
            await caller.send(HEAD[at : at + 1], 1.0)
            assert not caller.transport.closed
        await caller.send(HEAD[20:21], 2 * LOOK_SECONDS)
        assert caller.transport.closed
        assert caller.said.startswith(b"HTTP/1.1 408 ")

    talking(work)


def test_line_ends_before_a_request_keep_no_connection_open():
    async def work(caller):
        for _ in range(int(STALL_SECONDS) + 2):
            if not caller.transport.closed:
                await caller.send(b"\r\n", 1.0)
        assert caller.transport.closed

    talking(work)


def test_a_body_that_stops_is_given_up_and_the_application_learns_of_it():
    async def work(caller):
        await caller.send(HEAD + b"x" * 20_000, STALL_SECONDS + 20_000 / LEAST_RATE - LOOK_SECONDS)
        assert not caller.transport.closed
        caller.loop.sleep(3 * LOOK_SECONDS)
        assert caller.transport.closed
        assert caller.said.startswith(b"HTTP/1.1 408 ")

    assert talking(work).front.left


def test_a_body_that_comes_slowly_but_comes_is_taken():
    async def work(caller):
        await caller.send(HEAD)
        for _ in range(100):
            await caller.send(b"x" * 1000, 0.99)
        assert caller.said.startswith(b"HTTP/1.1 200 ")
        assert not caller.transport.closed

    talking(work)


def test_time_that_the_application_takes_is_not_the_callers():
    async def work(caller):
        await caller.send(HEAD + b"x")
        caller.protocol.flow.pause_reading()
        caller.loop.sleep(10 * STALL_SECONDS)
        caller.protocol.flow.resume_reading()
        caller.loop.sleep(STALL_SECONDS / 2)
        assert not caller.transport.closed
        caller.loop.sleep(STALL_SECONDS)
        assert caller.transport.closed

    talking(work)


def test_a_request_half_sent_behind_one_that_is_under_way_waits_with_it():
    async def work(caller):
        await caller.send(HEAD + b"x" * 99_999)
        caller.protocol._open += 1  # one before it has no answer yet
        caller.loop.sleep(10 * STALL_SECONDS)
        assert not caller.transport.closed
        caller.protocol._open -= 1

    talking(work)


def test_each_of_many_slow_requests_has_its_own_time():
    async def work(caller):
        small = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab"
        for _ in range(10):
            await caller.send(small[:-1], STALL_SECONDS - LOOK_SECONDS)
            await caller.send(small[-1:])
        assert caller.said.count(b"HTTP/1.1 200 ") == 10
        assert not caller.transport.closed

    talking(work)


def test_nobody_is_watched_when_nothing_is_half_done():
    async def work(caller):
        await caller.send(HEAD + b"x" * 50_000)
        await caller.send(b"x" * 50_000)
        caller.loop.sleep(2 * LOOK_SECONDS)
        assert caller.protocol._watch is None
        assert not caller.transport.closed

    talking(work)


def test_a_caller_who_asks_nothing_is_let_go_as_one_who_asks_nothing_more():
    async def work(caller):
        caller.loop.sleep(KEEP_ALIVE - 1)
        assert not caller.transport.closed
        caller.loop.sleep(2)
        assert caller.transport.closed

    assert talking(work).said == b""


@pytest.mark.parametrize(("rate", "closed"), [(0, True), (LEAST_RATE / 2, True), (2 * LEAST_RATE, False)])
def test_an_answer_that_nobody_reads_is_given_up_and_one_that_is_read_slowly_is_not(rate, closed):
    async def work(caller):
        caller.transport.unread = 1_000_000
        caller.protocol.pause_writing()
        for _ in range(60):
            caller.transport.unread -= int(rate)
            caller.loop.sleep(1.0)
        assert caller.transport.closed == closed

    talking(work)


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"x-%d: a\r\n" % number for number in range(MOST_HEADERS)),
        b"x: " + b"a" * HEAD_BYTES + b"\r\n",
    ],
    ids=["many", "long"],
)
def test_a_head_that_is_too_large_is_refused_also_when_it_comes_whole(head):
    async def work(caller):
        await caller.send(HEAD[:-2] + head + b"\r\n")
        assert caller.transport.closed
        assert caller.said.startswith(b"HTTP/1.1 431 ")

    talking(work)
