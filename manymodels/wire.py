"""Text on the wire: query strings that keep every legal key value intact, and JSON in both directions.

Key values may hold anything (`/`, `=`, `%2F`, `..`, spaces, emoji), and a query string cannot tell a number from its
text, so what is not a legal key value is refused here, before it would turn into one.
"""

import json
import operator
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from manymodels.errors import KeyValueError, api_error
from manymodels.transport import Answer

Key = Mapping[str, str | int]

_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def to_json(body: object) -> bytes:
    """JSON of a request body; NumPy arrays and scalars are taken, NaN becomes null."""
    return orjson.dumps(body, option=_JSON)


def header_json(body: object) -> str:
    """JSON that fits an HTTP header: ASCII only, no line breaks."""
    return json.dumps(body, ensure_ascii=True, separators=(",", ":"))


def from_answer(answer: Answer) -> Any:
    """The decoded JSON of an answer, None without a body.

    Raises:
        ApiError: the subclass of the answer's status, if it is a refusal or no JSON.
    """
    if answer.status >= 400:
        raise api_error(answer.status, answer.headers, _decoded(answer.body))
    if not answer.body:
        return None
    body = _decoded(answer.body)
    if body is None:
        detail = "the answer is not JSON: this address may belong to another server"
        raise api_error(502, answer.headers, {"detail": detail, "code": "unexpected_answer"})
    return body


def checked(answer: Answer) -> bytes:
    """The body of an answer that is not JSON.

    Raises:
        ApiError: the subclass of the answer's status, if it is a refusal.
    """
    if answer.status >= 400:
        raise api_error(answer.status, answer.headers, _decoded(answer.body))
    return answer.body


def group_path(group: str, *rest: str | int) -> str:
    """The path of a group's resource."""
    return "/".join(["/v1/groups", quote(group, safe=""), *(quote(str(part), safe="") for part in rest)])


def query(pairs: Iterable[tuple[str, str | int | None]]) -> str:
    """`?a=1&b=2`, everything percent-encoded; pairs without a value are left out, no pair at all is empty text."""
    encoded = "&".join(
        f"{quote(name, safe='')}={quote(str(value), safe='')}" for name, value in pairs if value is not None
    )
    return f"?{encoded}" if encoded else ""


def key_pairs(key: Key) -> list[tuple[str, str]]:
    """Field and text of each key field.

    Raises:
        KeyValueError: for a value that is neither non-empty text nor an integer.
    """
    return [(field, key_text(field, value)) for field, value in key.items()]


def key_text(field: str, value: object) -> str:
    """The text of one key value: text as it is, an integer (Python's or NumPy's) as decimal text."""
    text = value if isinstance(value, str) else _integer_text(value)
    if not text:
        said = "empty text" if value == "" else f"{type(value).__name__} {value!r}"
        raise KeyValueError(f"the key field {field!r} must be non-empty text or an integer, got {said}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise KeyValueError(f"the key field {field!r} is not valid Unicode text") from error
    return text


def _integer_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    try:
        return str(operator.index(value))
    except TypeError:
        return None


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
