"""Every code of every error tree has its HTTP status, and a problem on the wire has its documented form."""

from importlib import import_module

import orjson
import pytest

from gateway.body import ClientDisconnectedError, declared_body, read_body
from gateway.errors import BodyTooLargeError, GatewayError, ParameterInvalidError, RecordedProblemError
from gateway.problems import STATUS, problem_body, problem_response
from gateway.request_ids import RequestIds
from registry.errors import KeyTypeError, Problem


def tree(root):
    for child in root.__subclasses__():
        yield child
        yield from tree(child)


def test_every_code_has_a_status():
    for room in ("discovery.errors", "gateway.errors", "workers.errors"):
        import_module(room)
    missing = {child.code for child in tree(Problem)} - set(STATUS) - {GatewayError.code}
    assert not missing


def test_a_problem_says_what_where_and_which_request():
    body = problem_body(KeyTypeError("must be text", field="store", row=3), "r-1")
    assert body == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "key_type",
        "detail": "must be text",
        "request_id": "r-1",
        "field": "store",
        "row": 3,
    }


def test_a_recorded_problem_keeps_its_own_code_and_status():
    response = problem_response(RecordedProblemError("signature_mismatch", "no such input"), "r")
    assert response.status_code == 400
    assert orjson.loads(response.body)["code"] == "signature_mismatch"


def test_a_busy_database_says_when_to_come_back():
    response = problem_response(RecordedProblemError("database_busy", "locked"), "r")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def test_request_ids_are_the_callers_only_where_harmless():
    ids = RequestIds()
    assert ids.of([(b"x-request-id", b"abc-1")]) == b"abc-1"
    for hostile in (b"a b", b"\x1b[31m", b"a\r\nb", b"x" * 129, b""):
        assert ids.of([(b"x-request-id", hostile)]) != hostile
    assert ids.new() != ids.new()


def arriving(*chunks, then="http.request"):
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": then, "body": b"", "more_body": False})

    async def receive():
        return messages.pop(0)

    return receive


def run(coroutine):
    import asyncio

    return asyncio.run(coroutine)


def test_a_body_in_one_byte_chunks_is_read_whole():
    assert run(read_body(arriving(*[b"x"] * 1000), 1000)) == b"x" * 1000


def test_a_body_past_the_limit_is_refused_as_it_arrives():
    with pytest.raises(BodyTooLargeError):
        run(read_body(arriving(*[b"x" * 10] * 1000), 100))
    with pytest.raises(BodyTooLargeError):
        declared_body([(b"content-length", b"101")]).check_length(100)
    with pytest.raises(ParameterInvalidError):
        declared_body([(b"content-length", b"+5")]).check_length(100)


def test_a_client_that_leaves_is_not_answered():
    with pytest.raises(ClientDisconnectedError):
        run(read_body(arriving(b"x", then="http.disconnect"), 100))
