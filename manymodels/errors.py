"""What can go wrong for a caller of the client, as one tree.

A server's refusal arrives as problem+json and becomes the `ApiError` subclass of its status, with the stable `code`,
the offending `field` and `row` where there is one, and the `request_id` to look for in the server's log. What goes
wrong on this side of the wire (no server, an estimator nobody can serve) has its own classes, whose text says what
to do next.
"""

from collections.abc import Mapping
from typing import Any, Final


class ManymodelsError(Exception):
    """The root of everything the client raises."""


class ApiError(ManymodelsError):
    """The server refused the call.

    Attributes:
        status: HTTP status.
        code: stable name of the problem, e.g. `partition_not_found`.
        detail: what is wrong, for people.
        field, row: where it is wrong, if the server could tell.
        request_id: of the answer, as the server's log has it.
        retry_after: seconds to wait, where the server names them.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str,
        field: str | None = None,
        row: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.field = field
        self.row = row
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        place = "".join(
            f", {name} {value}" for name, value in (("field", self.field), ("row", self.row)) if value is not None
        )
        return f"{self.detail} ({self.code}{place})"


class InvalidRequestError(ApiError):
    """The request is malformed or breaks a rule (4xx without a class of its own)."""


class NotFoundError(ApiError):
    """No such group, key, version, release, import or hold (404)."""


class ConflictError(ApiError):
    """The state of the group does not allow the call, or changed in between (409, 412)."""


class TooLargeError(ApiError):
    """The body is over a limit (413)."""


class BusyError(ApiError):
    """The server cannot take the call right now; it may be repeated after `retry_after` seconds (429, 503)."""


class ServerFaultError(ApiError):
    """The server failed (5xx); its log has the request id."""


class UnreachableError(ManymodelsError):
    """No answer came over the wire."""


class TimedOutError(UnreachableError):
    """The server did not answer in time; whether it carried the call out is unknown."""


class LibraryMissingError(ManymodelsError):
    """The call needs a library that is not installed; the text names it."""


class UnsupportedModelError(ManymodelsError):
    """No runtime serves this kind of model."""


class KeyValueError(ManymodelsError):
    """A key value is neither non-empty text nor an integer."""


class SourceNotFoundError(ManymodelsError):
    """The file or folder to import does not exist or holds no Parquet file."""


class ReleaseRefusedError(ManymodelsError):
    """The release was built but is blocked by a gate, or could not be built. `release` is its record."""

    def __init__(self, detail: str, release: Any) -> None:
        super().__init__(detail)
        self.release = release


class NothingReadyError(ManymodelsError):
    """There is no release to go to."""


class ImportFailedError(ManymodelsError):
    """An import ended without publishing anything. `record` is its record, `rejects` the first rejected rows."""

    def __init__(self, detail: str, record: Any, rejects: tuple[Any, ...] = ()) -> None:
        super().__init__(detail)
        self.record = record
        self.rejects = rejects


_BY_STATUS: Final[Mapping[int, type[ApiError]]] = {
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    413: TooLargeError,
    429: BusyError,
    503: BusyError,
}


def api_error(status: int, headers: Mapping[str, str], problem: object) -> ApiError:
    """The error of a refused call; `problem` is the decoded body, or anything else if it was no problem+json."""
    kind = _BY_STATUS.get(status, InvalidRequestError if status < 500 else ServerFaultError)
    given = problem if isinstance(problem, Mapping) else {}
    return kind(
        str(given.get("detail") or given.get("title") or f"the server answered with status {status}"),
        status=status,
        code=str(given.get("code") or f"http_{status}"),
        field=given.get("field"),
        row=given.get("row"),
        request_id=given.get("request_id") or headers.get("x-request-id"),
        retry_after=_seconds(headers.get("retry-after")),
    )


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None  # the other legal form, a date, is not what our server sends
