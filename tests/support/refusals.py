"""Bad input in tables: what is sent, and how it is refused."""

from typing import Any, NamedTuple

import orjson
import pytest

SIGNATURE = {
    "inputs": [
        {"name": "price"},
        {"name": "cost", "dtype": "float32", "default": 0},
        {"name": "feat", "dtype": "int64", "default": 0},
        {"name": "promo", "dtype": "bool", "default": False},
        {"name": "colour", "dtype": "string", "categories": ["red", "blue"], "default": "red"},
        {"name": "week", "dtype": "timestamp", "nullable": True, "default": None},
    ],
    "outputs": [{"name": "sales"}],
}
LIMITS = {
    "json_body_bytes": 4096,
    "arrow_body_bytes": 65536,
    "artifact_bytes": 131072,
    "bulk_upload_bytes": 262144,
    "max_instances": 8,
    "max_json_rows": 16,
    "max_arrow_rows": 16,
}
G = "/v1/groups/g"
KEY = {"store": "1", "brand": "a"}
GOOD = {"price": 1.0}
JSON = {"content-type": "application/json"}
DEEP = b"[" * 900 + b"]" * 900


class Bad(NamedTuple):
    """What is sent, and how it is refused."""

    sent: Any
    status: int
    code: str
    field: str | None = None
    row: int | None = None


def table(**cases):
    """Parametrization by name: `a_missing_field=Bad(...)`."""
    return pytest.mark.parametrize("bad", list(cases.values()), ids=list(cases))


def asked(key=KEY, instances=(GOOD,), **more):
    """The body of a single predict."""
    return orjson.dumps({"key": key, "instances": list(instances), **more})


def problem(response, status, code):
    """The body of a refusal, which is one by its status and code and names its request."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["request_id"] == response.headers["x-request-id"]
    return body
