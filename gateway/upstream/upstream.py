"""One worker as a gateway sees it: its connections, the calls that wait for it, and how it has been doing.

Calls for a warm answer go out together: a call is sent at the end of the step of the event loop in which it came, with
all others that came by then, and while every connection is busy the next ones gather. So an idle hop adds no delay,
and a busy one costs a call far less than a request. Calls that may have to wait, and those that are tried again, go
alone, each on a connection that no other call shares meanwhile.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import orjson

from gateway.upstream.connection import Connection, ConnectionLostError, open_connection
from gateway.upstream.health import Record
from registry.errors import Problem
from workers.errors import HopInvalidError
from workers.hop.frames import frames
from workers.hop.problems import problem_named
from workers.hop.routes import DEADLINE, HEALTH, NOW, WELL

log = logging.getLogger("manymodels.gateway")

Frame = tuple[memoryview, memoryview]  # head and numbers

BATCH_BYTES: Final = 48 * 1024
BATCH_CALLS: Final = 64
NOW_CONNECTIONS: Final = 2
ALONE_CONNECTIONS: Final = 64
CONNECT_SECONDS: Final = 0.5
TRY_SECONDS: Final = 0.25  # a warm answer that takes longer is looked for elsewhere
PROBE_SECONDS: Final = 0.12


class Upstream:
    """A worker at one address. For one event loop.

    Attributes:
        record: how it has been doing.
        in_flight: calls that wait for it or are under way.
        reluctant: whether it says that others should be asked: it is starting, or about to stop.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self.uri = uri
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.record = Record()
        self.in_flight = 0
        self.reluctant = False
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, asyncio.Future[Frame]]] = deque()
        self._flush_planned = False
        self._sharing: list[Connection] = []
        self._opening = 0
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._alone = asyncio.Semaphore(ALONE_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._probing: Connection | None = None

    def now(self, frame: bytes) -> "asyncio.Future[Frame]":
        """The answer to a call if it needs no waiting, else a frame that says so; goes together with others.

        The future ends with ConnectionLostError where the worker could not be reached or did not answer in time, and
        with the Problem that the worker answered to the whole request.
        """
        future: asyncio.Future[Frame] = self._loop.create_future()
        self._waiting.append((frame, future))
        self.in_flight += 1
        self._plan_flush()
        return future

    async def alone(self, path: bytes, frame: bytes, seconds: float) -> Frame:
        """The answer to one call, waited for.

        Raises:
            ConnectionLostError: if the worker cannot be reached or the time is over.
            Problem: what the worker answered to the request as a whole.
        """
        self.in_flight += 1
        try:
            async with asyncio.timeout(seconds), self._alone:
                return await self._ask_alone(path, frame, seconds)
        except TimeoutError as error:
            self.record.lost(self._loop.time())
            raise ConnectionLostError(f"no answer within {seconds:g} s", sent=True) from error
        finally:
            self.in_flight -= 1

    async def probe(self) -> None:
        """Ask whether it is well, and take notice."""
        try:
            if self._probing is not None and self._probing.is_busy:
                return
            async with asyncio.timeout(PROBE_SECONDS):
                if self._probing is None or self._probing.closing:
                    self._probing = await self._open(PROBE_SECONDS)
                status, body = await self._probing.request(HEALTH, b"")
        except (ConnectionLostError, TimeoutError):
            self._forget_probe()
            if self.record.probed(self._loop.time(), well=False):
                log.warning("%s does not answer its health probes and is left out", self.uri)
                self.give_up("it does not answer its health probes")
            return
        self.reluctant = body != WELL
        self.record.probed(self._loop.time(), well=status == 200)

    def give_up(self, why: str) -> None:
        """End all that is under way; it is tried elsewhere."""
        for connection in [*self._sharing, *self._used, *self._idle]:
            connection.give_up(why)
        self._refuse_waiting(ConnectionLostError(why, sent=False))

    def close(self) -> None:
        """Close what is idle; what is under way ends by itself."""
        self._forget_probe()
        for connection in [*self._sharing, *self._idle]:
            if not connection.is_busy:
                connection.give_up("the gateway needs it no more")

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        while self._waiting:
            idle = next((one for one in self._sharing if not one.is_busy and not one.closing), None)
            if idle is None:
                if len(self._sharing) + self._opening < NOW_CONNECTIONS:
                    self._begin(self._open_sharing())
                return
            self._send(idle)

    def _send(self, connection: Connection) -> None:
        size = 0
        batch: list[tuple[bytes, asyncio.Future[Frame]]] = []
        while self._waiting and len(batch) < BATCH_CALLS:
            size += len(self._waiting[0][0])
            if batch and size > BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        sent = connection.request(NOW, b"".join([frame for frame, _ in batch]) if len(batch) > 1 else batch[0][0])
        timer = self._loop.call_later(TRY_SECONDS, connection.give_up, f"no answer within {TRY_SECONDS:g} s")
        sent.add_done_callback(partial(self._arrived, [future for _, future in batch], self._loop.time(), timer))

    def _arrived(
        self,
        futures: "list[asyncio.Future[Frame]]",
        began: float,
        timer: asyncio.TimerHandle,
        sent: "asyncio.Future[tuple[int, bytes]]",
    ) -> None:
        timer.cancel()
        self.in_flight -= len(futures)
        now = self._loop.time()
        try:
            answers = self._read(*sent.result(), len(futures))
        except (ConnectionLostError, Problem) as error:
            if isinstance(error, ConnectionLostError):
                self.record.lost(now)
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        else:
            self.record.answered(now - began)
            for future, answer in zip(futures, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        if self._waiting:
            self._plan_flush()

    def _read(self, status: int, body: bytes, wanted: int) -> list[Frame]:
        """The frames of an answer. Raises the problem that stands in their place."""
        if status != 200:
            raise _problem(status, body)
        found = list(frames(body))
        if len(found) != wanted:
            raise HopInvalidError(f"{len(found)} answers to {wanted} calls")
        return found

    async def _ask_alone(self, path: bytes, frame: bytes, seconds: float) -> Frame:
        connection = self._take_idle() or await self._open(CONNECT_SECONDS)
        self._used.add(connection)
        try:
            status, body = await connection.request(path, frame, b"%b: %d\r\n" % (DEADLINE, seconds * 1000))
        except ConnectionLostError:
            self.record.lost(self._loop.time())
            raise
        finally:
            self._used.discard(connection)
            if connection.is_busy:  # the caller has left, and an answer may still come
                connection.give_up("its caller has left")
            elif not connection.closing:
                self._idle.append(connection)
        self.record.answered()
        return self._read(status, body, 1)[0]

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closing:
                return connection
        return None

    async def _open_sharing(self) -> None:
        self._opening += 1
        try:
            self._sharing.append(await self._open(CONNECT_SECONDS))
        except ConnectionLostError as error:
            if not self._sharing:
                self._refuse_waiting(error)
        finally:
            self._opening -= 1
        self._plan_flush()

    async def _open(self, seconds: float) -> Connection:
        try:
            return await open_connection(self._host, self._port, seconds, self._lost)
        except ConnectionLostError:
            self.record.unreachable(self._loop.time())
            raise

    def _refuse_waiting(self, error: ConnectionLostError) -> None:
        waiting, self._waiting = self._waiting, deque()
        self.in_flight -= len(waiting)
        for _, future in waiting:
            if not future.done():
                future.set_exception(error)

    def _lost(self, connection: Connection) -> None:
        if connection in self._sharing:
            self._sharing.remove(connection)
            if self._waiting:
                self._plan_flush()
        elif connection in self._idle:
            self._idle.remove(connection)

    def _forget_probe(self) -> None:
        if self._probing is not None:
            self._probing.give_up("a probe was not answered")
            self._probing = None

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _problem(status: int, body: bytes) -> Problem:
    """The problem of an answer that is none."""
    try:
        said = orjson.loads(body)
        return problem_named(said["code"], said["detail"], said.get("field"))
    except (ValueError, KeyError, TypeError):
        return HopInvalidError(f"the worker answered {status}")
