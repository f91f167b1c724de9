"""What the route table is made of: one `Operation` per method and path, with all that a caller may rely on.

Handlers stand beside their operations, so the served routes and the OpenAPI document come from one declaration.
Immutable values; no I/O.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from gateway.context import Context
from gateway.control.bodies import GROUP_PATTERN, MAX_NUMBER

Handler = Callable[[Context, Request], Awaitable[Response]]
Schema = Mapping[str, Any]
Shape = Any  # a pydantic model or a TypedDict

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter.

    Attributes:
        free: it is a form object, whose members are parameters of any name (key fields, tags).
        content: what it is the JSON text of, if that.
        example: a value that shows its use.
    """

    name: str
    where: Literal["path", "query", "header"]
    description: str
    schema: Schema
    required: bool = False
    free: bool = False
    content: Shape = None
    example: Any = None


@dataclass(frozen=True, slots=True)
class Payload:
    """A request body: a shape to be documented, or bytes of some media type."""

    description: str
    shape: Shape = None
    media: tuple[str, ...] = (JSON,)
    schema: Schema | None = None
    required: bool = True
    example: Any = None


@dataclass(frozen=True, slots=True)
class Lead:
    """Where an answer leads: operations whose path starts with `path`, its parameters taken from the exchange."""

    path: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its shape (None is an empty body), media type and headers."""

    status: int
    description: str
    shape: Shape = None
    media: str = JSON
    schema: Schema | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    leads: Lead | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        problems: codes that this operation may answer besides those that every operation may.
        handler: None where another part of the front door serves it (predict).
        documented: whether the OpenAPI document shows it.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    name: str
    tag: str
    summary: str
    answers: tuple[Answer, ...]
    handler: Handler | None = None
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    payload: Payload | None = None
    problems: tuple[str, ...] = ()
    documented: bool = True


GROUP: Final = Parameter("group", "path", "the group's name", {"type": "string", "pattern": GROUP_PATTERN}, True)
NUMBER: Final = Parameter(
    "number", "path", "its number", {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER}, True
)
_TEXTS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 512}}
KEY: Final = Parameter(
    "key",
    "query",
    "the key, one parameter a field: `?store=2&brand=tropicana`. Form encoding: `+` is a space, `%2B` a plus. Fewer"
    " fields than the group's name a fallback model, if the group declares that level",
    _TEXTS,
    free=True,
    example={"store": "2", "brand": "tropicana"},
)
LIMIT: Final = Parameter(
    "limit", "query", "items a page", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
)
CURSOR: Final = Parameter("cursor", "query", "where the last page ended", {"type": "string", "maxLength": 4096})

KEY_PROBLEMS: Final = ("key_field_missing", "key_field_unknown", "key_type", "key_too_long")
BODY_PROBLEMS: Final = ("json_invalid", "body_invalid", "body_too_large", "unsupported_media_type")
