"""Replies in JSON, in one place so that all control routes answer alike."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response

from gateway.control.operation import JSON

_NO_STORE: Final = {"cache-control": "no-store"}


def reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer. Control answers change with every write, so no cache may keep them."""
    return Response(orjson.dumps(body), status, {**_NO_STORE, **(headers or {})}, JSON)


def empty_reply() -> Response:
    """204, no body."""
    return Response(status_code=204, headers=dict(_NO_STORE))
