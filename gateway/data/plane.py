"""The data plane: predict and bulk as raw ASGI, ahead of any router.

A router, a request object and a response object would cost more than the model; this callable reads the path, the
headers and the body itself. Concurrency is bounded per process: past the bound a caller is told to try again, which
is cheaper for both than a queue nobody drains.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import partial
from time import perf_counter
from typing import Final

from discovery.errors import SnapshotUnavailableError
from discovery.lookup import group_view
from discovery.snapshot import GroupView
from gateway.body import (
    ARROW_STREAM,
    ClientDisconnectedError,
    DeclaredBody,
    Headers,
    Receive,
    Scope,
    Send,
    declared_body,
    plain_json,
    read_body,
)
from gateway.context import Context
from gateway.data.answers import AnswerReader
from gateway.data.bulk import BulkAnswer, json_answer, score_bulk
from gateway.data.bulk_rows import BulkRows, PlainReader, level_limit, read_json_bulk
from gateway.data.parameters import read_parameters
from gateway.data.portions import LEAST_BYTES
from gateway.data.rows import RowReader
from gateway.data.single import read_call, written
from gateway.errors import (
    DrainingError,
    ParameterInvalidError,
    UnsupportedMediaTypeError,
)
from gateway.metrics import DataMetrics
from gateway.problems import CLIENT_LEFT, refusal
from gateway.reply import Later, Reply
from workers.client import ScoreAnswer
from workers.errors import DeadlineError, OverloadedError
from workers.shedding import Step

log = logging.getLogger("manymodels.gateway")

Answer = tuple[bytes, bytes]  # body, content type
JSON: Final = b"application/json"
_JSON_TYPES: Final = frozenset({JSON, b""})
_BULK_TYPES: Final = _JSON_TYPES | {ARROW_STREAM}
_TOO_MANY: Final = "more comes than this process can answer; try again in a moment"
INLINE_BYTES: Final = 64 * 1024  # a JSON bulk up to this size is read on the event loop: a thread would cost more


class DataPlane:
    """Answers predicts of one process. Lives on its event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._settings = context.settings
        self._readers: dict[str, tuple[GroupView, RowReader, AnswerReader]] = {}
        self._metrics = DataMetrics()
        self._plain: Future[PlainReader | None] | None = None
        self._step = Step(context.settings.queue_seconds)
        self._single = _Route("predict", context.settings.max_in_flight, self._metrics)
        self._bulk = _Route("bulk", context.settings.max_bulk_in_flight, self._metrics)

    @property
    def is_busy(self) -> bool:
        """Whether the last step of the event loop kept predicts waiting."""
        return not self._step.was_short

    def predict_now(self, group: str, headers: Headers, raw: bytes, request_id: bytes) -> Reply | Later | None:
        """The answer to a single predict, refusals included, where it can be given without waiting here.

        None if a model must be loaded, or if the headers or the body's size need a closer look: `predict` takes it.
        """
        started = perf_counter()
        step = self._step
        if step.came(started):
            asyncio.get_running_loop().call_soon(step.over)
        elif not step.admits():
            return self._single.failed(OverloadedError(_TOO_MANY), request_id, started)
        if len(raw) > self._settings.json_body_bytes or not plain_json(headers):
            return None
        try:
            view, rows, answers = self._group(group)
            call, deployment = read_call(view, rows, raw, self._settings.max_instances)
            scored = self._context.worker.score_now(call)
            if scored is None:
                begun = self._context.worker.begin(call)
                if begun is None:
                    return None
                write = partial(written, deployment=deployment, answers=answers, metrics=self._metrics)
                return self._single.later(begun, write, request_id, started)
            body = written(scored, deployment, answers, self._metrics)
        except Exception as error:  # noqa: BLE001 - told to the caller, and logged where it is ours
            return self._single.failed(error, request_id, started)
        return self._single.answered(body, JSON, request_id, started)

    async def predict(self, group: str, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        """`POST /v1/groups/{group}/predict`."""

        async def answer() -> Answer:
            limit = self._settings.json_body_bytes
            if scope["query_string"]:
                raise ParameterInvalidError("this route takes no query parameters; the body says it all")
            declared = declared_body(scope["headers"])
            _check_media_type(declared, _JSON_TYPES)
            declared.check_length(limit)
            raw = await read_body(receive, limit)
            view, rows, answers = self._group(group)
            call, deployment = read_call(view, rows, raw, self._settings.max_instances)
            scored = await self._context.worker.score(call)
            return written(scored, deployment, answers, self._metrics), JSON

        await self._single.serve(answer, send, request_id)

    async def bulk(self, group: str, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        """`POST /v1/groups/{group}/predict/bulk`, JSON or Arrow by content type."""

        async def answer() -> Answer:
            declared = declared_body(scope["headers"])
            _check_media_type(declared, _BULK_TYPES)
            arrow = declared.media_type == ARROW_STREAM
            limit = self._settings.arrow_body_bytes if arrow else self._settings.json_body_bytes
            declared.check_length(limit)
            asked = read_parameters(scope["query_string"])
            raw = await read_body(receive, limit)
            try:
                async with asyncio.timeout(self._settings.request_seconds):
                    return await (self._arrow_bulk if arrow else self._json_bulk)(group, raw, asked)
            except TimeoutError as error:
                raise DeadlineError(f"no answer within {self._settings.request_seconds:g} s") from error

        await self._bulk.serve(answer, send, request_id)

    async def _json_bulk(self, group: str, raw: bytes, asked: Mapping[str, int]) -> Answer:
        view, reader, answers = self._group(group)
        read = partial(read_json_bulk, view, reader, raw, self._settings.max_json_rows, asked, self._plain_reader(raw))
        apart = len(raw) > INLINE_BYTES
        rows = await self._context.compute(read) if apart else read()
        scored = await score_bulk(view, rows, self._context.worker, self._metrics)
        write = partial(json_answer, scored, answers)
        return await self._context.compute(write) if apart else write(), JSON

    async def _arrow_bulk(self, group: str, raw: bytes, asked: Mapping[str, int]) -> Answer:
        view, reader, answers = self._group(group)
        rows = await self._context.compute(_read_arrow, view, reader, raw, asked, self._settings.max_arrow_rows)
        scored = await score_bulk(view, rows, self._context.worker, self._metrics)
        return await self._context.compute(_arrow_answer, scored, answers), ARROW_STREAM

    def _plain_reader(self, raw: bytes) -> PlainReader | None:
        """What reads plain bulks; none until it is imported, in a thread, which the first bulk worth it begins."""
        if self._plain is None:
            if len(raw) >= LEAST_BYTES:
                self._plain = self._context.computing.submit(_import_plain)
            return None
        return self._plain.result() if self._plain.done() else None

    def _group(self, name: str) -> tuple[GroupView, RowReader, AnswerReader]:
        snapshot = self._context.watcher.current
        if snapshot is None:
            raise SnapshotUnavailableError("no first snapshot could be read yet; try again in a moment")
        view = group_view(snapshot, name)
        known = self._readers.get(name)
        if known is not None and known[0] is view:
            return known
        if known is not None and known[0].signature == view.signature:
            made = (view, known[1], known[2])
        else:
            made = (view, RowReader(view.signature), AnswerReader(view.signature))
        self._readers[name] = made
        return made


def _import_plain() -> PlainReader | None:
    try:
        from gateway.data.plain_rows import read_plain  # noqa: PLC0415 - numba takes half a second to import
    except Exception:  # without it a bulk takes longer, and that is all
        log.exception("plain bulks are parsed like others")
        return None
    return read_plain


# pyarrow takes a fifth of a second to import, which no start should wait for; the first Arrow bulk does, in its thread.
def _read_arrow(view: GroupView, reader: RowReader, raw: bytes, asked: Mapping[str, int], limit: int) -> BulkRows:
    from gateway.data.arrow import read_arrow_bulk  # noqa: PLC0415 - see above

    level = level_limit(asked, view.schema)
    return read_arrow_bulk(view, reader, raw, max_level=level, limit=limit)


def _arrow_answer(answer: BulkAnswer, answers: AnswerReader) -> bytes:
    from gateway.data.arrow import arrow_answer  # noqa: PLC0415 - see above

    return arrow_answer(answer, answers)


class _Route:
    """Bounds, counts and answers the requests of one data route."""

    def __init__(self, name: str, limit: int, metrics: DataMetrics) -> None:
        self._name = name
        self._metrics = metrics
        self._limit = limit
        self._under_way = 0

    async def serve(self, answer: Callable[[], Awaitable[Answer]], send: Send, request_id: bytes) -> None:
        started = perf_counter()
        if self._under_way >= self._limit:
            await self.failed(self._full(), request_id, started).send(send)
            return
        self._under_way += 1
        try:
            try:
                body, media_type = await answer()
            except ClientDisconnectedError:
                self._metrics.answered(self._name, CLIENT_LEFT, perf_counter() - started)
                return
            except Exception as error:  # noqa: BLE001 - told to the caller, and logged where it is ours
                reply = self.failed(error, request_id, started)
            else:
                reply = self.answered(body, media_type, request_id, started)
            await reply.send(send)
        finally:
            self._under_way -= 1

    def later(
        self,
        begun: "asyncio.Future[ScoreAnswer]",
        write: Callable[[ScoreAnswer], bytes],
        request_id: bytes,
        started: float,
    ) -> Later | Reply:
        """Bound, count and answer a request whose scores are on their way; `write` makes JSON of them."""
        if self._under_way >= self._limit:
            return self.failed(self._full(), request_id, started)
        self._under_way += 1

        def make(done: "asyncio.Future[ScoreAnswer]") -> Reply:
            self._under_way -= 1
            try:
                body = write(done.result())
            except asyncio.CancelledError:
                return self.failed(DrainingError("this process is being stopped"), request_id, started)
            except Exception as error:  # noqa: BLE001 - told to the caller, and logged where it is ours
                return self.failed(error, request_id, started)
            return self.answered(body, JSON, request_id, started)

        return Later(begun, make)

    def _full(self) -> OverloadedError:
        return OverloadedError(f"{self._limit} requests are under way in this process; try again in a moment")

    def answered(self, body: bytes, media_type: bytes, request_id: bytes, started: float) -> Reply:
        """Count an answer."""
        self._metrics.answered(self._name, 200, perf_counter() - started)
        return Reply(200, body, media_type, request_id)

    def failed(self, error: Exception, request_id: bytes, started: float) -> Reply:
        """Count a refusal."""
        reply = refusal(error, request_id)
        self._metrics.answered(self._name, reply.status, perf_counter() - started)
        return reply


def _check_media_type(declared: DeclaredBody, allowed: frozenset[bytes]) -> None:
    declared.check_encoding()
    if declared.media_type not in allowed:
        said = declared.media_type.decode("latin-1")[:80]
        wanted = " or ".join(sorted(name.decode() for name in allowed if name))
        raise UnsupportedMediaTypeError(f"content-type {said!r} is not taken here; send {wanted}", field="content-type")
