"""Reading requests: path, query, JSON body and uploads, each within limits and refused with a code.

The query is decoded exactly once, as a form (`+` is a space) and as strict UTF-8, so that a key value that contains
`/`, `=`, `;`, `%2F` or an emoji arrives as its sender meant it and no two values fold into one.
"""

import re
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from gateway.body import ClientDisconnectedError, declared_body, read_body
from gateway.control.bodies import GROUP_PATTERN, MAX_NUMBER, read_body_as
from gateway.control.duplicates import refuse_duplicates
from gateway.errors import JsonInvalidError, ParameterInvalidError, UnsupportedMediaTypeError
from registry.errors import GroupNotFoundError, Problem

MAX_PARAMETERS: Final = 64
MAX_WAIT: Final = 60.0

Model = TypeVar("Model", bound=BaseModel)
_GROUP: Final = re.compile(GROUP_PATTERN)
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_WAIT: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)?", re.ASCII)
_SECONDS: Final[Mapping[str | None, float]] = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}


def group_name(request: Request) -> str:
    """The group named by the path.

    Raises:
        GroupNotFoundError: also for what can be no group's name, so that nothing illegal reaches SQL or a disk.
    """
    name = str(request.path_params["group"])
    if not _GROUP.fullmatch(name):
        raise GroupNotFoundError("no group can have this name: a-z, 0-9, '.', '_' and '-', 63 at the most")
    return name


def path_number(request: Request, missing: type[Problem]) -> int:
    """The number named by the path; `missing` is raised for what is no number."""
    text = str(request.path_params["number"])
    if not _NUMBER.fullmatch(text) or int(text) > MAX_NUMBER:
        raise missing(f"{text[:20]!r} is no number from 1 to {MAX_NUMBER}")
    return int(text)


def query(request: Request) -> dict[str, str]:
    """All query parameters, decoded once.

    Raises:
        ParameterInvalidError: if one is repeated, is not UTF-8, or there are too many.
    """
    raw: bytes = request.scope["query_string"]
    try:
        pairs = parse_qsl(raw.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError as error:
        raise ParameterInvalidError("the query is not UTF-8 text, percent-encoded") from error
    except ValueError as error:
        raise ParameterInvalidError(f"the query has over {MAX_PARAMETERS} parameters") from error
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise ParameterInvalidError(f"the parameter {name[:64]!r} is given twice", field=name[:64])
        given[name] = value
    return given


def options(request: Request, *known: str) -> dict[str, str]:
    """The query of a route that takes these parameters and no others.

    Raises:
        ParameterInvalidError: naming an unknown or repeated parameter.
    """
    given = query(request)
    for name in given:
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise ParameterInvalidError(f"there is no parameter {name[:64]!r}; this route {takes}", field=name[:64])
    return given


def page_limit(given: Mapping[str, str]) -> int:
    """The page size asked for: 1 to 1000, 100 by default."""
    text = given.get("limit", "100")
    if not _NUMBER.fullmatch(text) or int(text) > 1000:
        raise ParameterInvalidError("limit is a number from 1 to 1000", field="limit")
    return int(text)


def wait_seconds(given: Mapping[str, str]) -> float:
    """How long a long poll may wait: `30s`, `500ms`, `1m` or plain seconds; at most a minute, none by default."""
    match = _WAIT.fullmatch(given.get("wait", "0"))
    if match is None:
        raise ParameterInvalidError("wait is a time like 30s, 500ms or 1m", field="wait")
    return min(float(match[1]) * _SECONDS[match[2]], MAX_WAIT)


async def read_json(request: Request, model: type[Model], limit: int, *, empty: Any = None) -> Model:
    """The JSON body as a `model`, at most `limit` bytes; `empty` is what no body stands for, None refuses it.

    Raises:
        UnsupportedMediaTypeError, BodyTooLargeError, JsonInvalidError, BodyInvalidError.
    """
    media = media_type(request)
    if media and media != "application/json":
        raise UnsupportedMediaTypeError(
            f"this route takes application/json, got {media[:100]}; send the header content-type: application/json"
        )
    _check_declared(request, limit)
    body = await read_body(request.receive, limit)
    if not body and empty is not None:
        return read_body_as(model, empty)
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise JsonInvalidError(f"the body is not JSON: {error}") from error
    refuse_duplicates(body)
    return read_body_as(model, given)


def media_type(request: Request) -> str:
    """The content type without its parameters, lower case; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class Upload:
    """A body on its way to the store: hands the chunks on and takes their SHA-256 in passing. Read once."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._hash = sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of what has passed so far, hex."""
        return self._hash.hexdigest()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive.

        Raises:
            ClientDisconnectedError: if the client leaves first.
        """
        try:
            async for chunk in self._request.stream():
                self._hash.update(chunk)
                yield chunk
        except ClientDisconnect as error:
            raise ClientDisconnectedError from error


def upload(request: Request, limit: int) -> Upload:
    """The body as an upload of bytes.

    Raises:
        UnsupportedMediaTypeError: for forms, whose framing would become part of the artifact, and compressed bodies.
        BodyTooLargeError: if it declares more than `limit` bytes.
    """
    if media_type(request).startswith("multipart/"):
        raise UnsupportedMediaTypeError("send the bytes themselves as the body (curl --data-binary), not a form")
    _check_declared(request, limit)
    return Upload(request)


def _check_declared(request: Request, limit: int) -> None:
    declared = declared_body(request.headers.raw)
    declared.check_encoding()
    declared.check_length(limit)
