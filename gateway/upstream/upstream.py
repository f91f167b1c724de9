"""One worker as a gateway sees it: its connections, the calls that wait for it, and how it has been doing.

Calls for a warm answer go out together: a call is sent at the end of the step of the event loop in which it came, with
all others that came by then, and while every connection is busy the next ones gather. So an idle hop adds no delay,
and a busy one costs a call far less than a request; of slow models fewer go together, for the last of them waits for
all. Calls that may have to wait, and those that are tried again, go alone, each on a connection that no other call
shares meanwhile. Of both, what would wait too long is refused when it comes.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Protocol
from urllib.parse import urlsplit

import orjson

from gateway.upstream.connection import Connection, ConnectionLostError, open_connection
from gateway.upstream.health import Record
from registry.errors import Problem
from workers.errors import HopInvalidError, OverloadedError
from workers.hop.frames import Frame, frames
from workers.hop.problems import problem_named
from workers.hop.routes import DEADLINE, HEALTH, NOW, WELL
from workers.shedding import Gate

log = logging.getLogger("manymodels.gateway")

BATCH_BYTES: Final = 48 * 1024
BATCH_CALLS: Final = 64
NOW_CONNECTIONS: Final = 2
ALONE_CONNECTIONS: Final = 64
CONNECT_SECONDS: Final = 0.5
TRY_SECONDS: Final = 0.25  # a warm answer that takes longer is looked for elsewhere besides
LOST_SECONDS: Final = 10.0  # one that takes longer never comes
PROBE_SECONDS: Final = 0.12
LATE_SECONDS: Final = 0.06  # after which the end of a probe is noticed only where this process has too much to do

_Sent = asyncio.Future[tuple[int, bytes]]  # status and body to come
_Alone = tuple[float, Callable[[], bool]]  # since when a call goes alone, and what tells whether it may leave


class Call(Protocol):
    """One that goes together with others, and is told itself what comes of it: a future for each would cost more."""

    @property
    def frame(self) -> bytes:
        """What is sent."""

    def arrived(self, upstream: "Upstream", head: bytes, numbers: memoryview) -> None:
        """Its answer is here, or a frame that says that the call would have to wait."""

    def failed(self, upstream: "Upstream", error: ConnectionLostError | Problem) -> None:
        """The worker could not be reached or is given up, or refused the whole request. As `arrived`, never at once."""

    def late(self) -> None:
        """It has taken long and goes on; told again and again while its worker hangs."""


class Upstream:
    """A worker at one address. For one event loop.

    Attributes:
        record: how it has been doing.
        in_flight: calls that wait for it or are under way.
        reluctant: whether it says that others should be asked: it is starting, or about to stop.
    """

    def __init__(self, uri: str, queue_seconds: float, others_are_well: Callable[["Upstream"], bool]) -> None:
        """`queue_seconds` of its work may lie before a call.

        `others_are_well` tells whether there is any worker besides that answers its probes.
        """
        parts = urlsplit(uri)
        self.uri = uri
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.record = Record()
        self.in_flight = 0
        self.reluctant = False
        self._others_are_well = others_are_well
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Call] = deque()
        self._sent = 0  # calls that went together and have no answer yet
        self._gate = Gate(queue_seconds)
        self._flush_planned = False
        self._sharing: list[Connection] = []
        self._opening = 0
        self._idle: list[Connection] = []
        self._together: dict[_Sent, Sequence[Call]] = {}  # calls under way, also where no others join them any more
        self._used: dict[Connection, _Alone] = {}
        self._alone = asyncio.Semaphore(ALONE_CONNECTIONS)
        self._queued = 0  # calls that wait for a connection of their own
        self._gate_alone = Gate(queue_seconds)
        self._tasks: set[asyncio.Task[None]] = set()
        self._probing: Connection | None = None

    def admits(self, now: float) -> bool:
        """Whether so little is before a call that it should go here; `now` is the loop's time."""
        before = len(self._waiting) + self._sent
        return self._gate.admits(now, before)

    def now(self, call: Call) -> None:
        """Ask for an answer that needs no waiting, together with others. The call is told of it in a later step."""
        self._waiting.append(call)
        self.in_flight += 1
        self._plan_flush()

    async def alone(
        self, path: bytes, frame: bytes, seconds: float, *, patient: bool, may_leave: Callable[[], bool]
    ) -> Frame:
        """The answer to one call, waited for; by who is patient also where others would have to wait too long.

        Should this worker hang, `may_leave` is asked, again and again, whether the call is to be given up here because
        it may go elsewhere.

        Raises:
            ConnectionLostError: if the worker cannot be reached or the time is over.
            OverloadedError: if too many wait already.
            Problem: what the worker answered to the request as a whole.
        """
        if not patient and not self._gate_alone.admits(self._loop.time(), self._queued):
            raise OverloadedError("too many calls wait for the worker that serves this key; try again in a moment")
        self.in_flight += 1
        try:
            async with asyncio.timeout(seconds), self._turn():
                return await self._ask_alone(path, frame, seconds, may_leave)
        except TimeoutError as error:
            self.record.lost(self._loop.time())
            raise ConnectionLostError(f"no answer within {seconds:g} s", sent=True) from error
        finally:
            self.in_flight -= 1

    async def probe(self) -> None:
        """Ask whether it is well, and take notice.

        What this process itself was too late to hear says nothing of the worker.
        """
        began = self._loop.time()
        try:
            if self._probing is not None and self._probing.is_busy:
                return
            async with asyncio.timeout(PROBE_SECONDS):
                if self._probing is None or self._probing.closing:
                    self._probing = await self._open(PROBE_SECONDS)
                status, body = await self._probing.request(HEALTH, b"")
        except (ConnectionLostError, TimeoutError):
            self._forget_probe()
            now = self._loop.time()
            if now - began > PROBE_SECONDS + LATE_SECONDS:
                return
            if self.record.probed(now, well=False):
                log.warning("%s does not answer its health probes and is left out", self.uri)
            if self.record.hangs and self._others_are_well(self):
                self.give_up("it does not answer its health probes")
            return
        self.reluctant = body != WELL
        self.record.probed(self._loop.time(), well=status == 200)

    def give_up(self, why: str) -> None:
        """The worker hangs: what waits goes elsewhere, and of what is under way as much as may; the rest stays.

        For to a machine with too much to do one worker after another seems to hang, and what nobody else may be asked
        for would only be lost. What is under way goes on without others joining it.
        """
        for connection in [*self._sharing, *self._idle]:
            if not connection.is_busy:
                connection.give_up(why)
        self._sharing = []
        long_ago = self._loop.time() - LOST_SECONDS
        for connection, (began, may_leave) in list(self._used.items()):
            if began < long_ago or may_leave():
                connection.give_up(why)
        for sent, batch in self._together.items():
            if not sent.done():
                for call in batch:
                    call.late()
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
        batch: list[Call] = []
        most = self._gate.together(BATCH_CALLS)
        while self._waiting and len(batch) < most:
            size += len(self._waiting[0].frame)
            if batch and size > BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        self._sent += len(batch)
        sent = connection.request(NOW, b"".join([call.frame for call in batch]) if len(batch) > 1 else batch[0].frame)
        timers = [
            self._loop.call_later(TRY_SECONDS, self._is_late, batch),
            self._loop.call_later(LOST_SECONDS, connection.give_up, f"no answer within {LOST_SECONDS:g} s"),
        ]
        self._together[sent] = batch
        sent.add_done_callback(partial(self._arrived, connection, self._loop.time(), self._sent, timers))

    def _is_late(self, batch: Sequence[Call]) -> None:
        """A request takes long, and those that wait behind it will: their callers may ask elsewhere besides."""
        self.record.lost(self._loop.time())
        for call in (*batch, *self._waiting):
            call.late()

    def _arrived(
        self,
        connection: Connection,
        began: float,
        together: int,
        timers: Sequence[asyncio.TimerHandle],
        sent: _Sent,
    ) -> None:
        for timer in timers:
            timer.cancel()
        batch = self._together.pop(sent)
        self.in_flight -= len(batch)
        self._sent -= len(batch)
        now = self._loop.time()
        # In that time it answered those of the other connection as well; or did not, and it takes as long at least.
        self._gate.answered(now, now - began, together, behind=len(self._waiting))
        if connection not in self._sharing:
            connection.give_up("its worker hung meanwhile")
        if self._waiting:
            self._plan_flush()
        try:
            answers = self._read(*sent.result(), len(batch))
        except (ConnectionLostError, Problem) as error:
            if isinstance(error, ConnectionLostError):
                self.record.lost(now)
            for call in batch:
                call.failed(self, error)
        else:
            self.record.answered(now - began)
            for call, (head, numbers) in zip(batch, answers, strict=True):
                call.arrived(self, head, numbers)

    def _read(self, status: int, body: bytes, wanted: int) -> list[Frame]:
        """The frames of an answer. Raises the problem that stands in their place."""
        if status != 200:
            raise _problem(status, body)
        found = list(frames(body))
        if len(found) != wanted:
            raise HopInvalidError(f"{len(found)} answers to {wanted} calls")
        return found

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until there is a connection for one more call."""
        self._queued += 1
        try:
            await self._alone.acquire()
        finally:
            self._queued -= 1
        try:
            yield
        finally:
            self._alone.release()

    async def _ask_alone(self, path: bytes, frame: bytes, seconds: float, may_leave: Callable[[], bool]) -> Frame:
        connection = self._take_idle() or await self._open(CONNECT_SECONDS)
        began = self._loop.time()
        self._used[connection] = began, may_leave
        together = len(self._used)
        try:
            status, body = await connection.request(path, frame, b"%b: %d\r\n" % (DEADLINE, seconds * 1000))
        except ConnectionLostError:
            self.record.lost(self._loop.time())
            raise
        finally:
            del self._used[connection]
            if connection.is_busy:  # the caller has left, and an answer may still come
                connection.give_up("its caller has left")
            elif not connection.closing:
                self._idle.append(connection)
        self.record.answered()
        now = self._loop.time()
        self._gate_alone.answered(now, now - began, together, behind=self._queued)
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
            opened = await open_connection(self._host, self._port, seconds, self._lost)
        except ConnectionLostError:
            self.record.unreachable(self._loop.time())
            raise
        self.record.absent = False
        return opened

    def _refuse_waiting(self, error: ConnectionLostError) -> None:
        waiting, self._waiting = self._waiting, deque()
        self.in_flight -= len(waiting)
        for call in waiting:
            call.failed(self, error)

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
