"""Problems on the wire: RFC 9457 `application/problem+json`, and the one table from code to HTTP status.

Rooms below raise problems with a stable code and know nothing of HTTP; this table is where a code gets its status.
A code that is missing here is a defect of ours and becomes 500, which a test over all error trees rules out.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import InternalError, MethodNotAllowedError, NotFoundError, RecordedProblemError, code_of
from gateway.reply import Reply
from registry.errors import Problem

log = logging.getLogger("manymodels.gateway")

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = "1"
CLIENT_LEFT: Final = 499  # as nginx counts it; never on the wire
MAX_DETAIL: Final = 1000  # characters: a problem may quote its request, but never at length
MAX_FIELD: Final = 300

_BY_STATUS: Final[Mapping[int, tuple[str, ...]]] = {
    400: (
        "arrow_invalid",
        "artifact_invalid",
        "bad_request",
        "body_invalid",
        "confirmation_required",
        "cursor_invalid",
        "deployment_invalid",
        "example_mismatch",
        "feature_missing",
        "feature_null",
        "feature_type",
        "feature_unknown",
        "group_invalid",
        "hold_invalid",
        "hop_invalid",
        "import_rejected",
        "json_invalid",
        "key_field_missing",
        "key_field_unknown",
        "key_too_long",
        "key_type",
        "meta_invalid",
        "parameter_invalid",
        "parquet_invalid",
        "proof_failed",
        "row_width",
        "rows_empty",
        "signature_invalid",
        "signature_mismatch",
        "too_many_rows",
    ),
    404: (
        "group_not_found",
        "hold_not_found",
        "import_not_found",
        "not_found",
        "nothing_live",
        "partition_not_found",
        "release_not_found",
        "task_not_found",
        "version_not_found",
    ),
    405: ("method_not_allowed",),
    409: ("group_exists", "home_in_use", "import_state", "promotion_refused", "release_state"),
    412: ("precondition_failed",),
    413: ("artifact_too_large", "body_too_large", "upload_too_large"),
    415: ("unsupported_media_type",),
    422: ("non_finite_prediction", "prediction_failed"),
    429: ("overloaded", "watchers_full"),
    500: (
        "artifact_damaged",
        "artifact_missing",
        "builder_failed",
        "database_too_new",
        "database_unknown",
        "discovery_error",
        "home_invalid",
        "internal_error",
        "port_unavailable",
        "problem",
        "recorded_problem",
        "registry_error",
        "segment_damaged",
        "setting_invalid",
        "store_invalid",
        "worker_error",
    ),
    503: (
        "away",
        "builder_unavailable",
        "database_busy",
        "deadline_exceeded",
        "discovery_away",
        "draining",
        "model_load_failed",
        "model_quarantined",
        "release_not_ready",
        "snapshot_unavailable",
        "store_away",
        "workers_unreachable",
    ),
    507: ("storage_full",),
}

STATUS: Final[Mapping[str, int]] = {code: status for status, codes in _BY_STATUS.items() for code in codes}


def status_of(problem: Problem) -> int:
    """HTTP status of a problem; 500 for a code that the table lacks."""
    return STATUS.get(code_of(problem), 500)


def problem_body(problem: Problem, request_id: str) -> dict[str, object]:
    """The RFC 9457 object of a problem."""
    status = status_of(problem)
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code_of(problem),
        "detail": problem.detail[:MAX_DETAIL],
        "request_id": request_id,
    }
    if problem.field is not None:
        body["field"] = problem.field[:MAX_FIELD]
    if problem.row is not None:
        body["row"] = problem.row
    return body


def problem_headers(status: int) -> dict[str, str]:
    """Headers that go with a problem of this status."""
    return {"retry-after": RETRY_AFTER} if status in (429, 503) else {}


def told_of(error: Exception, request_id: str) -> Problem:
    """What the caller is told of an error; one of ours is logged in full and told without internals."""
    if not isinstance(error, Problem):
        log.error("request %s failed", request_id, exc_info=error)
        return InternalError("an internal error; the log has it by this id")
    if status_of(error) == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request %s: %s: %s", request_id, type(error).__name__, error.detail)
    return error


def refusal(error: Exception, request_id: bytes) -> Reply:
    """The answer to a request that failed so."""
    named = request_id.decode()
    problem = told_of(error, named)
    status = status_of(problem)
    more = [(name.encode(), value.encode()) for name, value in problem_headers(status).items()]
    return Reply(status, orjson.dumps(problem_body(problem, named)), MEDIA_TYPE.encode(), request_id, more)


def problem_response(problem: Problem, request_id: str) -> Response:
    """A problem as a Starlette response."""
    status = status_of(problem)
    return Response(
        orjson.dumps(problem_body(problem, request_id)),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=problem_headers(status),
    )


def request_id_of(request: Request) -> str:
    """The id that the front gave this request."""
    return str(request.scope["state"]["request_id"])


async def on_problem(request: Request, error: Exception) -> Response:
    """Starlette exception handler for every `Problem`."""
    if not isinstance(error, Problem):
        raise error
    request_id = request_id_of(request)
    return problem_response(told_of(error, request_id), request_id)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette exception handler for the router's own 404 and 405."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response = problem_response(
            MethodNotAllowedError(f"{request.method} is not allowed here"), request_id_of(request)
        )
        response.headers.update(error.headers or {})
        return response
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response(NotFoundError("no such route; see /docs for all routes"), request_id_of(request))
    recorded = RecordedProblemError("bad_request", error.detail)
    return problem_response(recorded, request_id_of(request))


async def on_disconnect(_request: Request, _error: Exception) -> Response:
    """Starlette exception handler for a caller who left while sending: counted, and nobody is there to answer."""
    return Response(status_code=CLIENT_LEFT)


async def on_failure(request: Request, error: Exception) -> Response:
    """Starlette exception handler for what nobody foresaw: logged in full, answered without internals."""
    request_id = request_id_of(request)
    return problem_response(told_of(error, request_id), request_id)
