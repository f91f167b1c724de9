"""From the JSON of an answer to typed values.

Every result class names its fields as the wire does, so reading one is picking those fields; the few that need a
conversion (times, nested values) say so where they are read. A field that a newer server adds is passed over.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from typing import Any, TypeVar

from manymodels.errors import ServerFaultError

T = TypeVar("T")


def pick(kind: type[T], body: Any, **converted: Any) -> T:
    """A dataclass of `kind` from a JSON object, with `converted` fields taking precedence.

    Raises:
        ServerFaultError: if the object lacks a field, so it is not what this client knows.
    """
    if not isinstance(body, Mapping):
        raise _unexpected(f"a {kind.__name__} should be an object, the server sent {type(body).__name__}")
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # every result class is a dataclass
        if field.name in converted:
            values[field.name] = converted[field.name]
        elif field.name in body:
            values[field.name] = body[field.name]
        elif field.default is MISSING and field.default_factory is MISSING:
            raise _unexpected(f"the server's {kind.__name__} has no {field.name!r}: is it an older version?")
    return kind(**values)


def moment(text: Any) -> datetime | None:
    """The time of an RFC 3339 text; None stays None."""
    return None if text is None else datetime.fromisoformat(text)


def _unexpected(detail: str) -> ServerFaultError:
    return ServerFaultError(detail, status=502, code="unexpected_answer")
