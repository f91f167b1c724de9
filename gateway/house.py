"""An offline home: the same application as a served one, called in process, so that nothing has a second way.

A command with `--home` and no server talks to this. The event loop runs in a thread of its own; a builder is started
only when a call gives it work, and closing waits for that work to end. Where a `serve` owns the home already its
builder does the work instead.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from discovery.membership import BUILDER
from discovery.memberships import begin_membership
from gateway.app import Front
from gateway.assembly import Assembly
from gateway.body import Message
from gateway.building import builder_settings
from gateway.roles import SERVE
from gateway.settings import Settings, read_settings
from registry.database import migrate
from registry.errors import AwayError
from registry.home import Home
from workers.builder.context import Bench, BuilderContext, BuilderSettings
from workers.builder.service import IDLE_SECONDS, BuilderService

log = logging.getLogger("manymodels.gateway")

T = TypeVar("T")

LOOK_SECONDS: Final = 0.1  # between two looks for work that a builder left behind

Reply = tuple[int, Mapping[str, str], bytes]


class House:
    """One open home. Calls may come from any thread; close it from the one that opened it."""

    def __init__(self, home: Home, settings: Settings, building: BuilderSettings) -> None:
        self._assembly = Assembly(home, settings, SERVE, uri=None, wake_builder=self._wake_builder)
        context = self._assembly.context
        work = BuilderContext(context.database, context.store, context.membership, building)
        bench = Bench.of(building, threading.Event())
        self._builder = _OfflineBuilder(BuilderService(work), bench, self._is_built_elsewhere)
        self._front = Front(context)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="house", daemon=True)

    def open(self) -> None:
        """Read the home and map what is live."""
        self._thread.start()
        self._assembly.start()

    def close(self) -> None:
        """Finish the work that was asked for, then let go of everything."""
        self._builder.close()
        self._assembly.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Answer one HTTP request: status, headers (lower case) and body."""
        return self._submit(self._request(method, path, headers, body)).result()

    async def _request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        target = urlsplit(path)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(target.path),
            "raw_path": target.path.encode(),
            "query_string": target.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": None,
            "server": None,
        }
        call = _Call(body)
        await self._front(scope, call.receive, call.send)
        return call.status, call.headers, bytes(call.body)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _wake_builder(self) -> None:
        self._builder.wake()

    def _is_built_elsewhere(self) -> bool:
        return any(
            BUILDER in member.services and member.state != "dead"
            for member in self._assembly.context.membership.members()
        )


class _OfflineBuilder:
    """A builder that works from when it is first woken until the home is closed, in a thread of its own.

    Work that another builder may still take is left to it: a server's does it, and one that was killed is found dead
    before long. Its children wait for more work for a while, because their imports take seconds.
    """

    def __init__(self, service: BuilderService, bench: Bench, elsewhere: Callable[[], bool]) -> None:
        """`elsewhere` tells whether another builder of this home may be alive. Takes over the bench."""
        self._service = service
        self._bench = bench
        self._elsewhere = elsewhere
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Say that there is work. From the event loop's thread."""
        self._woken.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="offline-builder")
            self._thread.start()

    def close(self) -> None:
        """Finish all work that was asked for, or see it in another builder's hands."""
        self._closing.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()
        self._bench.close()

    def _run(self) -> None:
        worked = time.monotonic()
        while True:
            closing = self._closing.is_set()
            self._woken.clear()
            try:
                waiting = self._service.is_wanted()
                if waiting and not self._elsewhere():
                    self._service.run_until_idle(self._bench)
                    worked = time.monotonic()
                    continue
            except AwayError as error:
                log.warning("no work can be claimed: %s", error)
                waiting = False
            if closing and not waiting:
                return
            if time.monotonic() - worked > IDLE_SECONDS:
                self._bench.close()
                worked = math.inf
            self._woken.wait(LOOK_SECONDS)


class _Call:
    """The two ends of one ASGI call."""

    def __init__(self, body: bytes) -> None:
        self._unread: bytes | None = body
        self.status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    async def receive(self) -> Message:
        if self._unread is None:
            return {"type": "http.disconnect"}
        body, self._unread = self._unread, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")


@contextmanager
def open_house(
    home: Path,
    *,
    settings: Callable[[], Settings] = read_settings,
    building: Callable[[Settings], BuilderSettings] = builder_settings,
) -> Iterator[House]:
    """Open a home without serving it; creates it if it is not there. `building` says how its builder works.

    Raises:
        Problem: if the folder cannot be used.
    """
    where = Home(home.absolute())
    where.prepare()
    chosen = settings()
    addresses = chosen.addresses(where)
    migrate(addresses.registry)
    begin_membership(addresses.membership, ttl=chosen.lease_seconds, alone=False)
    house = House(where, chosen, building(chosen))
    house.open()
    try:
        yield house
    finally:
        house.close()
