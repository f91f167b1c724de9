import asyncio

import pytest
from starlette.requests import Request

from gateway.body import ClientDisconnectedError
from gateway.control import reading
from gateway.control.bodies import ReleaseBody
from gateway.control.deployments import _if_match
from gateway.control.discovery import read_revision
from gateway.control.holds import parse_until
from gateway.errors import (
    BodyInvalidError,
    BodyTooLargeError,
    JsonInvalidError,
    ParameterInvalidError,
    UnsupportedMediaTypeError,
)
from registry.errors import GroupNotFoundError, HoldInvalidError, ReleaseNotFoundError


def request(query=b"", *, body=b"", headers=(), path_params=None, messages=None):
    sent = iter(messages or [{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        return next(sent)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": query,
        "headers": [*headers],
        "path_params": path_params or {},
    }
    return Request(scope, receive)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (b"a=x%2Fy", "x/y"),
        (b"a=x/y", "x/y"),
        (b"a=b%3Dc", "b=c"),
        (b"a=b=c", "b=c"),
        (b"a=x;y", "x;y"),
        (b"a=%252F", "%2F"),
        (b"a=..", ".."),
        (b"a=a+b", "a b"),
        (b"a=a%20b", "a b"),
        (b"a=a%2Bb", "a+b"),
        (b"a=%F0%9F%8D%8A", "\N{TANGERINE}"),
        ("a=\N{TANGERINE}".encode(), "\N{TANGERINE}"),
        (b"a=", ""),
        (b"a", ""),
        (b"a=%00", "\0"),
    ],
)
def test_a_query_value_is_decoded_exactly_once(query, value):
    assert reading.query(request(query)) == {"a": value}


@pytest.mark.parametrize("query", [b"a=1&a=1", b"a=1&b=2&%61=3"])
def test_a_repeated_parameter_is_refused(query):
    with pytest.raises(ParameterInvalidError) as caught:
        reading.query(request(query))
    assert caught.value.field == "a"


@pytest.mark.parametrize("query", [b"a=%ff", b"%ff=a", b"a=\xff", b"a=%ed%a0%80"])
def test_a_query_that_is_no_utf8_is_refused_and_never_folded_into_another(query):
    with pytest.raises(ParameterInvalidError):
        reading.query(request(query))


def test_too_many_parameters_are_refused():
    with pytest.raises(ParameterInvalidError, match="64"):
        reading.query(request(b"&".join(b"a%d=1" % i for i in range(65))))


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(ParameterInvalidError, match="on_error") as caught:
        reading.options(request(b"on_eror=skip"), "on_error")
    assert caught.value.field == "on_eror"


@pytest.mark.parametrize("name", ["", "OJ", "a b", "../a", "a\n", "a\0", "\udcff", "a" * 64, "-a", "ä"])
def test_what_can_be_no_group_is_not_found(name):
    with pytest.raises(GroupNotFoundError):
        reading.group_name(request(path_params={"group": name}))


@pytest.mark.parametrize(
    "text", ["0", "-1", "01", "1.0", "x", "", "9" * 400, "2147483648", "\N{ARABIC-INDIC DIGIT ONE}"]
)
def test_what_can_be_no_number_is_not_found(text):
    with pytest.raises(ReleaseNotFoundError):
        reading.path_number(request(path_params={"number": text}), ReleaseNotFoundError)


@pytest.mark.parametrize(("text", "limit"), [("1", 1), ("1000", 1000)])
def test_a_limit_is_read(text, limit):
    assert reading.page_limit({"limit": text}) == limit


@pytest.mark.parametrize("text", ["0", "1001", "-1", "", "ten", "1e2", "9" * 30])
def test_a_limit_out_of_bounds_is_refused(text):
    with pytest.raises(ParameterInvalidError):
        reading.page_limit({"limit": text})


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("500ms", 0.5), ("1m", 60.0), ("2", 2.0), ("1.5s", 1.5), ("999999m", 60.0)]
)
def test_a_wait_is_read_and_held_to_a_minute(text, seconds):
    assert reading.wait_seconds({"wait": text}) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1h", "nan", "inf", "1 s", "1e3"])
def test_a_malformed_wait_is_refused(text):
    with pytest.raises(ParameterInvalidError):
        reading.wait_seconds({"wait": text})


def read(body, *, empty=None, limit=1000, headers=(), messages=None):
    asked = request(body=body, headers=headers, messages=messages)
    return asyncio.run(reading.read_json(asked, ReleaseBody, limit, empty=empty))


def test_a_json_body_is_read_and_an_empty_one_stands_for_what_the_route_says():
    assert read(b'{"base":3}').base == 3
    assert read(b"", empty={}).base is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"base":NaN}',
        b'{"base":3}x',
        b'\xff{"base":3}',
        b'{"base":3,"base":4}',
        b'{"gates":{"max_lost":1,"max_l\\u006fst":2}}',
        b"[" * 900 + b"]" * 900,
        b"[" * 5000 + b"]" * 5000,
    ],
)
def test_a_body_that_is_not_plain_json_is_refused(body):
    with pytest.raises((JsonInvalidError, BodyInvalidError)):
        read(body, limit=20_000)


def test_a_duplicate_member_is_named():
    with pytest.raises(JsonInvalidError) as caught:
        read(b'{"set":[],"gates":{"a":1,"a":2}}')
    assert caught.value.field == "a"


def test_a_body_over_the_limit_is_refused_by_its_declaration_and_by_its_length():
    with pytest.raises(BodyTooLargeError):
        read(b"{}", headers=[(b"content-length", b"1001")])
    with pytest.raises(BodyTooLargeError):
        read(b"", messages=[{"type": "http.request", "body": b" " * 600, "more_body": True}] * 3)


@pytest.mark.parametrize("media", [b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data"])
def test_another_content_type_is_refused_so_that_no_foreign_form_can_post_here(media):
    with pytest.raises(UnsupportedMediaTypeError):
        read(b"{}", headers=[(b"content-type", media)])


def test_a_json_content_type_with_parameters_is_taken():
    assert read(b"{}", headers=[(b"content-type", b"Application/JSON; charset=utf-8")]).base is None


def collect(asked, limit=1000):
    async def run():
        upload = reading.upload(asked, limit)
        return b"".join([chunk async for chunk in upload.chunks()]), upload.digest

    return asyncio.run(run())


def test_an_upload_hands_its_bytes_on_and_takes_their_digest():
    chunks = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"c"}]
    data, digest = collect(request(messages=chunks))
    assert data == b"abc"
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_upload_whose_client_leaves_ends_as_a_disconnect():
    gone = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}]
    with pytest.raises(ClientDisconnectedError):
        collect(request(messages=gone))


def test_an_upload_as_a_form_is_refused():
    with pytest.raises(UnsupportedMediaTypeError):
        collect(request(headers=[(b"content-type", b"multipart/form-data; boundary=x")]))


@pytest.mark.parametrize(
    ("header", "tags"),
    [(b"", ()), (b"*", ()), (b'"3"', ("3",)), (b' "3" , "4" ', ("3", "4")), (b'W/"3"', ('W/"3"',))],
)
def test_if_match_is_read_as_a_list_of_entity_tags(header, tags):
    assert _if_match(request(headers=[(b"if-match", header)])) == tags


@pytest.mark.parametrize("header", [b"3", b'"3', b'"3" "4"', b'*, "3"', b","])
def test_a_malformed_if_match_is_refused_rather_than_ignored(header):
    with pytest.raises(ParameterInvalidError):
        _if_match(request(headers=[(b"if-match", header)]))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400.0),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:30", 30.0),
    ],
)
def test_until_is_a_date_or_a_time_in_utc_unless_it_says_otherwise(text, seconds):
    assert parse_until(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2026-13-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1"]
)
def test_a_malformed_until_is_refused(text):
    with pytest.raises(HoldInvalidError):
        parse_until(text)


def test_a_revision_is_read_back_and_any_other_text_is_none_of_ours():
    revision = read_revision("abc-12")
    assert revision is not None
    assert str(revision) == "abc-12"
    assert [read_revision(text) for text in ("", "abc", "abc-", "abc-x", "-1", "abc-" + "9" * 30)] == [None] * 6
