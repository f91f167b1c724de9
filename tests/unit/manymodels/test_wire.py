"""Query strings, key texts, and answers turned into values or errors."""

from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manymodels.errors import (
    BusyError,
    ConflictError,
    InvalidRequestError,
    KeyValueError,
    NotFoundError,
    ServerFaultError,
    TooLargeError,
)
from manymodels.transport import Answer
from manymodels.wire import from_answer, group_path, header_json, key_pairs, query, to_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(st.dictionaries(TEXT, TEXT, max_size=5))
def test_any_text_round_trips_through_a_query_string(pairs):
    path = "/v1/x" + query(pairs.items())
    assert dict(parse_qsl(urlsplit(path).query, keep_blank_values=True)) == pairs


@pytest.mark.parametrize("value", ["a/b", "a=b", "a;b", "%2F", "..", "a b", "🍊", "a+b", "a&b", "a#b", "a?b", "é"])
def test_awkward_key_values_leave_no_bare_delimiter(value):
    encoded = query(key_pairs({"store": value})).removeprefix("?store=")
    assert not set(encoded) & set("/=;& #?+")
    assert parse_qsl(f"store={encoded}") == [("store", value)]


def test_pairs_without_a_value_are_left_out():
    assert query([("a", None), ("b", 1)]) == "?b=1"
    assert query([("a", None)]) == ""


def test_a_group_path_keeps_each_part_in_its_place():
    assert group_path("oj-sales", "imports", 3) == "/v1/groups/oj-sales/imports/3"
    assert group_path("a/b?") == "/v1/groups/a%2Fb%3F"


def test_integers_become_decimal_text():
    assert key_pairs({"a": 2, "b": np.int64(-3), "c": np.str_("x")}) == [("a", "2"), ("b", "-3"), ("c", "x")]


@pytest.mark.parametrize("value", [2.0, True, np.bool_(True), None, "", [1], np.float64(1), "\ud800"])
def test_what_is_no_key_value_is_refused_naming_the_field(value):
    with pytest.raises(KeyValueError, match="'store'"):
        key_pairs({"store": value})


def test_numpy_values_are_json():
    assert to_json({"a": np.array([1.5, np.nan]), "b": np.int64(2)}) == b'{"a":[1.5,null],"b":2}'


def test_header_json_is_one_line_of_ascii():
    text = header_json({"tags": {"städt": "a\nb\U0001f34a"}})
    assert text.isascii()
    assert "\n" not in text


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (404, NotFoundError),
        (409, ConflictError),
        (412, ConflictError),
        (413, TooLargeError),
        (422, InvalidRequestError),
        (429, BusyError),
        (500, ServerFaultError),
        (503, BusyError),
    ],
)
def test_each_refusal_becomes_the_error_of_its_status(status, kind):
    body = b'{"code":"c","detail":"d","field":"f","row":3,"request_id":"r"}'
    with pytest.raises(kind) as caught:
        from_answer(Answer(status, {"retry-after": "2"}, body))
    error = caught.value
    assert (error.status, error.code, error.detail, error.field, error.row, error.request_id, error.retry_after) == (
        status, "c", "d", "f", 3, "r", 2.0,
    )  # fmt: skip
    assert str(error) == "d (c, field f, row 3)"


def test_a_refusal_without_a_problem_body_is_still_told():
    with pytest.raises(ServerFaultError, match=r"status 502 \(http_502\)") as caught:
        from_answer(Answer(502, {"x-request-id": "r-9", "retry-after": "Fri, 20 Nov 2026 08:00:00 GMT"}, b"<html>"))
    assert caught.value.request_id == "r-9"
    assert caught.value.retry_after is None


def test_an_answer_that_is_no_json_is_not_taken_for_one():
    with pytest.raises(ServerFaultError, match="not JSON"):
        from_answer(Answer(200, {}, b"<html>hello</html>"))


def test_an_empty_answer_is_none():
    assert from_answer(Answer(204, {}, b"")) is None
