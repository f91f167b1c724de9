"""Registering one model: the upload is staged, a builder proves it, and its answer is handed on.

The gateway never parses an artifact. It enqueues the proof and waits for its end, so a registration through any
process is carried out by the one builder, and a caller who goes away loses nothing that the builder finishes.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast, get_args

from starlette.requests import Request
from starlette.responses import Response

from gateway.context import Context
from gateway.control import reading
from gateway.control.answers import RegisteredJson
from gateway.control.bodies import MetaBody
from gateway.control.groups import find
from gateway.control.operation import GROUP, KEY, KEY_PROBLEMS, Answer, Operation, Parameter, Payload
from gateway.control.replies import reply
from gateway.errors import ParameterInvalidError, RecordedProblemError
from registry.errors import MetaInvalidError, OutcomeUnknownError
from registry.keys import PartitionKey
from registry.meta import meta_body, parse_meta
from registry.records import RuntimeName, Task
from registry.tasks import enqueue, get_task
from workers.errors import BuilderUnavailableError

POLL_SECONDS: Final = 0.01
RUNTIMES: Final[tuple[str, ...]] = get_args(RuntimeName)


async def register(context: Context, request: Request) -> Response:
    """Register a model under exactly one key."""
    name = reading.group_name(request)
    group = await find(context, name)
    given = reading.query(request)
    runtime = read_runtime(request)
    if runtime is None:
        raise ParameterInvalidError(f"the header x-model-runtime must be one of {RUNTIMES}", field="x-model-runtime")
    meta = parse_meta(_meta_header(request))
    key = group.schema.parse_partial(given)
    upload = reading.upload(request, context.settings.artifact_bytes)
    staged, _ = await context.store.stage(upload.chunks(), context.settings.artifact_bytes)
    payload = {"staged": staged, "key": key.text, "runtime": runtime, "meta": meta_body(meta)}
    result = await _outcome(context, await context.run(_enqueue, context, name, payload))
    await context.run(context.watcher.refresh)
    return _registered(key, result)


def read_runtime(request: Request) -> RuntimeName | None:
    """The header `x-model-runtime`, None if absent. Raises ParameterInvalidError for a runtime nobody has."""
    given = request.headers.get("x-model-runtime")
    if given is None:
        return None
    if given not in RUNTIMES:
        raise ParameterInvalidError(
            f"x-model-runtime is one of {RUNTIMES}, got {given[:40]!r}", field="x-model-runtime"
        )
    return cast("RuntimeName", given)


def _meta_header(request: Request) -> bytes:
    values = [value for name, value in request.headers.raw if name == b"x-model-meta"]
    if len(values) > 1:
        raise MetaInvalidError("x-model-meta is given twice", field="x-model-meta")
    return values[0] if values else b""


@contextmanager
def used_once_committed(context: Context, staged: str) -> Iterator[None]:
    """Around a transaction that names an upload: without it nobody will ever ask for the upload, and it goes.

    Where nobody knows whether it was committed the upload stays, for whoever may carry it out; else gc removes it.
    """
    try:
        yield
    except OutcomeUnknownError:
        raise
    except Exception:
        context.store.unstage(staged)
        raise


def _enqueue(context: Context, group: str, payload: Mapping[str, Any]) -> int:
    with used_once_committed(context, payload["staged"]), context.database.write() as conn:
        task = enqueue(conn, "prove", group, payload, context.clock())
    context.wake_builder()
    return task


def _task(context: Context, number: int) -> Task:
    with context.database.read() as conn:
        return get_task(conn, number)


async def _outcome(context: Context, number: int) -> Mapping[str, Any]:
    """The result of a task once it has ended.

    Raises:
        RecordedProblemError: with the code the builder recorded.
        BuilderUnavailableError: if it has not ended by the deadline; the builder may still finish it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + context.settings.prove_seconds
    while loop.time() < deadline:
        task = await context.run(_task, context, number)
        if task.state == "done":
            return task.result or {}
        if task.state == "failed":
            raise recorded_problem(task.result or {})
        await asyncio.sleep(POLL_SECONDS)
    raise BuilderUnavailableError(
        f"no builder finished this within {context.settings.prove_seconds:g} s; it stays queued, and registering the "
        "same bytes again is safe"
    )


def recorded_problem(problem: Mapping[str, Any]) -> RecordedProblemError:
    """A problem as a builder recorded it: `{"code", "detail", "field", "row"}`."""
    return RecordedProblemError(
        str(problem.get("code", "proof_failed")),
        str(problem.get("detail", "the builder refused the model")),
        field=problem.get("field"),
        row=problem.get("row"),
    )


def _registered(key: PartitionKey, result: Mapping[str, Any]) -> Response:
    created = bool(result["created"])
    answer = RegisteredJson(key=key.text, version=result["version"], digest=result["digest"], created=created)
    return reply(answer, 201 if created else 200)


RUNTIME_HEADER: Final = Parameter(
    "x-model-runtime", "header", "what the bytes are", {"type": "string", "enum": list(RUNTIMES)}, required=True
)
_META_HEADER: Final = Parameter(
    "x-model-meta",
    "header",
    "what its author says of it, as JSON; examples are scored again and must agree",
    {"type": "string"},
    content=MetaBody,
)

OPERATIONS: Final = (
    Operation(
        "POST",
        "/v1/groups/{group}/models",
        "registerModel",
        "models",
        "Register a model under one key",
        (
            Answer(201, "a new version", RegisteredJson),
            Answer(200, "these bytes already are the key's newest version", RegisteredJson),
        ),
        register,
        description="The bytes are parsed, probed and bound to the group's signature by a builder before the answer."
        " With auto_release the new version goes live by itself.",
        parameters=(GROUP, KEY, RUNTIME_HEADER, _META_HEADER),
        payload=Payload(
            "the artifact's bytes", media=("application/octet-stream",), schema={"type": "string", "format": "binary"}
        ),
        problems=(
            "group_not_found",
            *KEY_PROBLEMS,
            "meta_invalid",
            "artifact_invalid",
            "signature_mismatch",
            "example_mismatch",
            "proof_failed",
            "upload_too_large",
            "artifact_too_large",
            "body_too_large",
            "unsupported_media_type",
            "builder_unavailable",
        ),
    ),
)
