"""Where a warm predict spends its time, without a network: the ASGI application called in this process.

Run by itself it shows the costliest functions: `python -m benchmarks.hotpath --home HOME --single FILE --bulk FILE
--profile`, over a home that nobody serves. The rest is the interpreter's own: a profile misleads about tiny functions,
so the figures come from runs without one.
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import thread_time
from typing import TYPE_CHECKING, Any, Final

import orjson

from benchmarks.fleet import GROUP
from benchmarks.load import read_bodies
from benchmarks.payloads import BULK, PREDICT
from benchmarks.processes import run
from benchmarks.report import Figure
from benchmarks.unserved import unserved

if TYPE_CHECKING:
    from gateway.context import Context
    from workers.client import ModelUse, ScoreAnswer, ScoreCall, WorkerClient

ROUNDS: Final = 9


@dataclass(frozen=True, slots=True)
class Split:
    """Microseconds of one request: altogether, within the worker's call, and for JSON alone (bytes to objects)."""

    total: float
    worker: float
    json: float


class _RecordingWorker:
    """The worker, with its calls kept so that they can be made again by themselves."""

    def __init__(self, worker: "WorkerClient") -> None:
        self._worker = worker
        self.calls: list[ScoreCall] = []

    def score_now(self, call: "ScoreCall") -> "ScoreAnswer | None":
        answer = self._worker.score_now(call)
        if answer is not None:
            self.calls.append(call)
        return answer

    def begin(self, call: "ScoreCall") -> "asyncio.Future[ScoreAnswer] | None":
        begun = self._worker.begin(call)
        if begun is not None:
            self.calls.append(call)
        return begun

    async def score(self, call: "ScoreCall") -> "ScoreAnswer":
        self.calls.append(call)
        return await self._worker.score(call)

    async def resolve(
        self, group: str, release: int, key: tuple[str, ...], max_level: int, disabled: frozenset[bytes]
    ) -> "ModelUse":
        return await self._worker.resolve(group, release, key, max_level, disabled)


class _Calls:
    """ASGI calls of one application: a list of bodies to one path."""

    def __init__(self, front: Any, path: str, bodies: Sequence[bytes]) -> None:
        self._front = front
        self._path = path
        self._bodies = bodies

    async def all(self) -> None:
        """Send every body once, the way the server would: on the spot if that is possible, else as ASGI."""
        for body in self._bodies:
            scope = self._scope(len(body))
            if self._path == PREDICT and self._front.prompt_answer(GROUP, scope["headers"], body) is not None:
                continue
            message = {"type": "http.request", "body": body, "more_body": False}
            await self._front(scope, _Receive(message), _refuse_errors)

    def _scope(self, length: int) -> dict[str, Any]:
        return {
            "type": "http",
            "method": "POST",
            "path": self._path,
            "query_string": b"",
            "headers": [
                (b"host", b"bench"),
                (b"content-type", b"application/json"),
                (b"content-length", str(length).encode()),
            ],
        }


class _Receive:
    def __init__(self, message: dict[str, Any]) -> None:
        self._message = message

    async def __call__(self) -> dict[str, Any]:
        return self._message


async def _refuse_errors(message: Any) -> None:
    if message.get("status", 200) != 200:
        raise RuntimeError(f"answered {message}")


def hotpath_figures(home: Path, single: Path, bulk: Path, bulk_rows: int) -> list[Figure]:
    """The split of a single and of a bulk predict over an unserved home."""
    said = json.loads(run("hotpath", ["--home", str(home), "--single", str(single), "--bulk", str(bulk)]))
    one, many = Split(**said["single"]), Split(**said["bulk"])
    return [
        Figure(
            "single predict without a network",
            one.total,
            "us",
            f"worker with the model {one.worker:.1f}, reading JSON {one.json:.1f}, "
            f"the rest of the gateway {one.total - one.worker - one.json:.1f}",
        ),
        Figure(
            "one row of a 500-key bulk without a network",
            many.total / bulk_rows,
            "us",
            f"worker with the model {many.worker / bulk_rows:.2f}, reading JSON {many.json / bulk_rows:.2f}, "
            f"the rest of the gateway {(many.total - many.worker - many.json) / bulk_rows:.2f}",
        ),
    ]


def split(context: "Context", path: str, bodies: Sequence[bytes]) -> Split:
    """Time the calls of one route; medians over the rounds, in CPU time of this thread."""
    from gateway.app import Front

    plain = _Calls(Front(context), path, bodies)
    recording = _RecordingWorker(context.worker)

    async def score_all() -> None:
        for call in recording.calls:
            _ = context.worker.score_now(call) or await context.worker.score(call)

    async def read_all() -> None:
        for body in bodies:
            orjson.loads(body)

    async def rounds() -> Split:
        await _Calls(Front(replace(context, worker=recording)), path, bodies).all()
        stages = (plain.all, score_all, read_all)
        timed = [[await _timed(stage) for stage in stages] for _ in range(ROUNDS)]
        return Split(*(median(seconds) / len(bodies) * 1e6 for seconds in zip(*timed, strict=True)))

    return asyncio.run(rounds())


async def _timed(stage: Callable[[], Awaitable[None]]) -> float:
    started = thread_time()
    await stage()
    return thread_time() - started


def show_profile(context: "Context", path: str, bodies: Sequence[bytes]) -> None:
    """Print the costliest functions of a route by their own time."""
    from gateway.app import Front

    calls = _Calls(Front(context), path, bodies)

    async def profiled() -> None:
        await calls.all()
        with cProfile.Profile(thread_time) as profile:
            for _ in range(ROUNDS):
                await calls.all()
        stats = pstats.Stats(profile).strip_dirs().sort_stats("tottime")
        stats.print_stats(30)

    asyncio.run(profiled())


def main() -> None:
    """Print the split of both routes as JSON, or their profiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--single", type=Path, required=True, help="one JSON body a line")
    parser.add_argument("--bulk", type=Path, required=True, help="one JSON body a line")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    routes = {"single": (PREDICT, read_bodies(given.single)), "bulk": (BULK, read_bodies(given.bulk))}
    with unserved(given.home) as context:
        if given.profile:
            for path, bodies in routes.values():
                show_profile(context, path, bodies)
        else:
            splits = {name: asdict(split(context, path, bodies)) for name, (path, bodies) in routes.items()}
            sys.stdout.write(json.dumps(splits) + "\n")


if __name__ == "__main__":
    main()
