"""Predicts straight to the workers, everything else to the server: what `Client(url, direct=True)` talks through.

It watches discovery's snapshot at the server and asks a worker that holds the key's shard, so that a predict crosses
one process less. The rules are a gateway's: a worker that is lost, or lacks the release, costs one more try at another,
within a budget, and rests for a while; the last picture stays while the server is away. The server is asked for what
the picture cannot tell, and for what no worker would answer.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote

import orjson

from manymodels.direct.picture import Picture, read_picture
from manymodels.errors import ManymodelsError, UnreachableError
from manymodels.http_transport import HttpTransport
from manymodels.retries import ELSEWHERE, RetryBudget
from manymodels.transport import Answer, Body
from manymodels.wire import from_answer, query

WAIT_SECONDS: Final = 20
PAUSE_SECONDS: Final = 1.0
TRY_SECONDS: Final = 2.0  # for the first of two workers
REST_SECONDS: Final = 1.0
_PREDICT: Final = re.compile(r"/v1/groups/([^/?]+)/predict")
_SNAPSHOT: Final = "/v1/discovery/snapshot"


class DirectTransport:
    """A `Transport`. Owns its connections and a thread that watches from the first predict on: close it.

    Args:
        url: address of a gateway or a whole house, which takes every call but predicts.
        timeout: seconds to wait for an answer.
        clock: tells monotonic seconds.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = HttpTransport(url, timeout=timeout)
        self._watching = HttpTransport(url, timeout=WAIT_SECONDS + 10.0, connections=1)
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._workers: dict[tuple[str, float], HttpTransport] = {}
        self._resting: dict[str, float] = {}
        self._budget = RetryBudget()
        self._picture: Picture | None = None
        self._watcher: threading.Thread | None = None
        self._closing = threading.Event()

    def close(self) -> None:
        """Close all idle connections; the thread ends with its poll."""
        self._closing.set()
        for transport in (self._server, self._watching, *self._workers.values()):
            transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: Body = b"", *, repeatable: bool = False
    ) -> Answer:
        """See `Transport.request`."""
        predict = _PREDICT.fullmatch(path) if method == "POST" else None
        if predict is not None and isinstance(body, bytes):
            answer = self._asked(self._serving(unquote(predict[1]), body), path, headers, body)
            if answer is not None:
                return answer
        return self._server.request(method, path, headers, body, repeatable=repeatable)

    def _serving(self, group: str, body: bytes) -> tuple[str, ...]:
        """The workers to ask, those at rest last; none if that cannot be told."""
        picture = self._picture or self._first()
        if picture is None:
            return ()
        try:
            found = picture.serving(group, orjson.loads(body)["key"])
        except (ManymodelsError, ValueError, KeyError, TypeError, AttributeError):
            return ()  # the server says what is wrong with it
        now = self._clock()
        return tuple(sorted(found, key=lambda uri: self._resting.get(uri, 0.0) > now))

    def _asked(self, uris: tuple[str, ...], path: str, headers: Mapping[str, str], body: Body) -> Answer | None:
        """The answer of the first of two workers that has one; None if neither has."""
        with self._lock:
            self._budget.called(self._clock())
        for number, uri in enumerate(uris[:2]):
            if number and not self._may_retry():
                return None
            seconds = TRY_SECONDS if number == 0 and len(uris) > 1 else self._timeout
            try:
                answer = self._worker(uri, min(seconds, self._timeout)).request("POST", path, headers, body)
            except UnreachableError:
                self._resting[uri] = self._clock() + REST_SECONDS
                continue
            if answer.status == 200 or _code(answer.body) not in ELSEWHERE:
                return answer
        return None

    def _may_retry(self) -> bool:
        with self._lock:
            return self._budget.take(self._clock())

    def _worker(self, uri: str, seconds: float) -> HttpTransport:
        with self._lock:
            if (uri, seconds) not in self._workers:
                self._workers[uri, seconds] = HttpTransport(uri, timeout=seconds)
            return self._workers[uri, seconds]

    def _first(self) -> Picture | None:
        """The first picture, read now; from then on a thread keeps it. None if the server has none for us."""
        with self._lock:
            if self._picture is None and self._look():
                self._watcher = threading.Thread(target=self._watch, name="manymodels-direct", daemon=True)
                self._watcher.start()
            return self._picture

    def _look(self, since: str | None = None) -> bool:
        """Read the snapshot, if it is not `since` or once it no longer is; whether it could be read."""
        asked = [("since", since), ("wait", f"{WAIT_SECONDS}s")] if since is not None else []
        try:
            answer = self._watching.request("GET", _SNAPSHOT + query(asked), {"accept": "application/json"})
            self._picture = read_picture(from_answer(answer))
        except (ManymodelsError, LookupError, TypeError, ValueError):
            return False
        return True

    def _watch(self) -> None:
        """Keep the picture; one that cannot be renewed stays."""
        while not self._closing.is_set():
            picture = self._picture
            if not self._look(picture.revision if picture is not None else None):
                self._closing.wait(PAUSE_SECONDS)


def _code(body: bytes) -> object:
    """The code of a problem; None of what is no problem of ours."""
    try:
        return orjson.loads(body).get("code")
    except (ValueError, AttributeError):
        return None
