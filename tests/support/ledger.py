"""Steady traffic with a ledger: every request is written down with its one outcome, also when it fails.

A house of several processes shares one port, so which process a connection lands on is chance; the ids that processes
give to requests have a beginning of their own, which tells them apart.
"""

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson

SECONDS = 60.0
CROWD = 200  # so many connections that all land on one of two processes do not happen


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request and what came of it. Status 0 is a connection that broke, `answer` then says how."""

    id: str
    path: str
    at: float
    seconds: float
    status: int
    answer: Any


class Caller:
    """One kept-alive connection to one serving process."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        self.process = self.call("GET", "/health/live").id.partition("-")[0]

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Outcome:
        """Send one request; never raises for what comes of it."""
        content = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        at = time.monotonic()
        try:
            self._connection.request(method, path, content, sent)
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Outcome("", path, at, time.monotonic() - at, 0, repr(error))
        answer: Any = raw
        with suppress(orjson.JSONDecodeError):
            answer = orjson.loads(raw)
        seconds = time.monotonic() - at
        return Outcome(response.headers["x-request-id"], path, at, seconds, response.status, answer)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def callers_of_each(port: int, processes: int, *, times: int = 1) -> Iterator[list[Caller]]:
    """So many connections to each of the processes that share a port, in turn."""
    found: dict[str, list[Caller]] = {}
    with ExitStack() as closing_all:
        for _ in range(CROWD):
            caller = Caller(port)
            closing_all.callback(caller.close)
            found.setdefault(caller.process, []).append(caller)
            if len(found) == processes and all(len(callers) >= times for callers in found.values()):
                break
        else:
            raise AssertionError(f"{CROWD} connections landed on {len(found)} of {processes} processes")
        yield [caller for turn in zip(*found.values(), strict=False) for caller in turn][: times * processes]


class Traffic:
    """Requests at a steady rate, in turn over a few connections; a request that is due late goes at once.

    `body` makes the path and body of the n-th request.
    """

    def __init__(
        self, callers: list[Caller], rate: float, body: Callable[[int], tuple[str, Mapping[str, Any]]]
    ) -> None:
        self._rate = rate
        self._body = body
        self._stopping = threading.Event()
        self._books: list[list[Outcome]] = [[] for _ in callers]
        self._threads = [
            threading.Thread(target=self._run, args=(caller, number, len(callers), self._books[number]))
            for number, caller in enumerate(callers)
        ]

    @property
    def outcomes(self) -> list[Outcome]:
        """Everything so far, by time."""
        return sorted((outcome for book in self._books for outcome in book), key=lambda outcome: outcome.at)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, caller: Caller, number: int, step: int, book: list[Outcome]) -> None:
        began = time.monotonic()
        while not self._stopping.wait(max(0.0, began + number / self._rate - time.monotonic())):
            path, body = self._body(number)
            book.append(caller.call("POST", path, body))
            number += step


@contextmanager
def traffic(
    callers: list[Caller], rate: float, body: Callable[[int], tuple[str, Mapping[str, Any]]]
) -> Iterator[Traffic]:
    """Traffic for as long as the context lasts."""
    flowing = Traffic(callers, rate, body)
    flowing.start()
    try:
        yield flowing
    finally:
        flowing.stop()


def failed(outcomes: list[Outcome]) -> list[Outcome]:
    """The requests that were not answered well, and those answered under an id that another had."""
    ids: set[str] = set()
    repeated = [outcome for outcome in outcomes if outcome.id in ids or ids.add(outcome.id)]
    return [outcome for outcome in outcomes if outcome.status != 200] + repeated
