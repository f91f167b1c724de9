"""A bad single predict is a problem with its code, field and row; and nothing has changed."""

import orjson
import pytest

from tests.support.refusals import DEEP, GOOD, JSON, KEY, Bad, G, asked, table


def cell(**cells):
    return asked(instances=[GOOD, GOOD | cells])


@table(
    a_missing_key_field=Bad(asked({"store": "1"}), 400, "key_field_missing", "brand"),
    an_extra_key_field=Bad(asked(KEY | {"region": "nw"}), 400, "key_field_unknown", "region"),
    another_key_field=Bad(asked({"store": "1", "region": "nw"}), 400, "key_field_unknown", "region"),
    a_float_key=Bad(asked(KEY | {"store": 1.5}), 400, "key_type", "store"),
    a_whole_float_key=Bad(asked(KEY | {"store": 1.0}), 400, "key_type", "store"),
    a_boolean_key=Bad(asked(KEY | {"store": True}), 400, "key_type", "store"),
    a_null_key=Bad(asked(KEY | {"brand": None}), 400, "key_type", "brand"),
    an_empty_key=Bad(asked(KEY | {"brand": ""}), 400, "key_type", "brand"),
    a_list_key=Bad(asked(KEY | {"brand": ["a"]}), 400, "key_type", "brand"),
    a_deep_key=Bad(b'{"key":{"store":%s,"brand":"a"},"instances":[{"price":1}]}' % DEEP, 400, "key_type", "store"),
    a_long_key=Bad(asked(KEY | {"brand": "é" * 257}), 400, "key_too_long", "brand"),
    an_integer_key_past_64_bits=Bad(asked(KEY).replace(b'"1"', b"9" * 40), 400, "key_type", "store"),
    no_key=Bad(orjson.dumps({"instances": [GOOD]}), 400, "body_invalid", "key"),
    a_key_that_is_a_list=Bad(asked(["1", "a"]), 400, "body_invalid", "key"),
    a_boolean_as_a_number=Bad(cell(price=True), 400, "feature_type", "price", 1),
    numeric_text_as_a_number=Bad(cell(price="3.5"), 400, "feature_type", "price", 1),
    a_list_as_a_number=Bad(cell(price=[1]), 400, "feature_type", "price", 1),
    a_deep_cell=Bad(
        b'{"key":{"store":"1","brand":"a"},"instances":[{"price":%s}]}' % DEEP, 400, "feature_type", "price", 0
    ),
    null_where_not_nullable=Bad(cell(price=None), 400, "feature_null", "price", 1),
    null_in_place_of_a_default=Bad(cell(feat=None), 400, "feature_null", "feat", 1),
    a_float_as_an_integer=Bad(cell(feat=1.5), 400, "feature_type", "feat", 1),
    an_integer_past_64_bits=Bad(cell(feat=2**63), 400, "feature_type", "feat", 1),
    a_number_past_float32=Bad(cell(cost=1e39), 400, "feature_type", "cost", 1),
    a_number_as_a_boolean=Bad(cell(promo=1), 400, "feature_type", "promo", 1),
    a_number_as_text=Bad(cell(colour=1), 400, "feature_type", "colour", 1),
    an_unknown_category=Bad(cell(colour="green"), 400, "feature_type", "colour", 1),
    a_number_as_a_timestamp=Bad(cell(week=1764547200), 400, "feature_type", "week", 1),
    a_timestamp_that_is_none=Bad(cell(week="2026-13-01"), 400, "feature_type", "week", 1),
    a_missing_feature=Bad(asked(instances=[GOOD, {"feat": 1}]), 400, "feature_missing", "price", 1),
    an_unknown_feature=Bad(cell(prize=1), 400, "feature_unknown", "prize", 1),
    a_row_too_short=Bad(asked(instances=[[1, 0, 0, False, "red", None], [1]]), 400, "row_width", None, 1),
    a_row_too_long=Bad(asked(instances=[[1, 0, 0, False, "red", None, 1]]), 400, "row_width", None, 0),
    an_array_among_objects=Bad(asked(instances=[GOOD, [1]]), 400, "body_invalid", None, 1),
    a_row_that_is_a_number=Bad(asked(instances=[1]), 400, "body_invalid", None, 0),
    no_rows=Bad(asked(instances=[]), 400, "rows_empty", "instances"),
    too_many_rows=Bad(asked(instances=[GOOD] * 9), 400, "too_many_rows", "instances"),
    rows_that_are_an_object=Bad(orjson.dumps({"key": KEY, "instances": GOOD}), 400, "body_invalid", "instances"),
    an_unknown_member=Bad(asked(explain=True), 400, "body_invalid", "explain"),
    a_negative_level=Bad(asked(max_fallback_level=-1), 400, "body_invalid", "max_fallback_level"),
    a_boolean_level=Bad(asked(max_fallback_level=True), 400, "body_invalid", "max_fallback_level"),
    a_text_level=Bad(asked(max_fallback_level="1"), 400, "body_invalid", "max_fallback_level"),
)
def test_a_bad_predict_is_refused(house, refused, bad):
    refused(house.client.post(f"{G}/predict", content=bad.sent, headers=JSON), bad)


@pytest.mark.parametrize("path", ["predict", "predict/bulk"])
@table(
    nothing=Bad(b"", 400, "json_invalid"),
    broken_json=Bad(b'{"key":', 400, "json_invalid"),
    something_behind_the_json=Bad(b"{} {}", 400, "json_invalid"),
    deep_json=Bad(b"[" * 2000 + b"]" * 2000, 400, "json_invalid"),
    deep_json_that_never_ends=Bad(b'{"a":' * 800, 400, "json_invalid"),
    no_utf8=Bad(b'{"key":"\xff"}', 400, "json_invalid"),
    a_lone_surrogate=Bad(b'{"key":"\\ud800"}', 400, "json_invalid"),
    nan=Bad(b'{"key":NaN}', 400, "json_invalid"),
    infinity=Bad(b'{"key":-Infinity}', 400, "json_invalid"),
    a_number_past_float64=Bad(b'{"key":1e999}', 400, "json_invalid"),
    a_list=Bad(b"[1]", 400, "body_invalid"),
    null=Bad(b"null", 400, "body_invalid"),
    too_many_bytes=Bad(b'{"a":"%s"}' % (b"x" * 4096), 413, "body_too_large"),
)
def test_a_body_that_is_no_json_object_is_refused_by_both_data_routes(house, refused, path, bad):
    refused(house.client.post(f"{G}/{path}", content=bad.sent, headers=JSON), bad)


@pytest.mark.parametrize("path", ["predict", "predict/bulk"])
@table(
    text=Bad({"content-type": "text/plain"}, 415, "unsupported_media_type", "content-type"),
    a_form=Bad({"content-type": "multipart/form-data; boundary=x"}, 415, "unsupported_media_type", "content-type"),
    an_arrow_file=Bad(
        {"content-type": "application/vnd.apache.arrow.file"}, 415, "unsupported_media_type", "content-type"
    ),
    gzip=Bad(JSON | {"content-encoding": "gzip"}, 415, "unsupported_media_type", "content-encoding"),
    an_endless_length=Bad(JSON | {"content-length": "9" * 5000}, 413, "body_too_large"),
    a_length_that_is_none=Bad(JSON | {"content-length": "+5"}, 400, "parameter_invalid", "content-length"),
)
def test_headers_that_do_not_fit_are_refused_by_both_data_routes(house, refused, path, bad):
    refused(house.client.post(f"{G}/{path}", content=asked(), headers=bad.sent), bad)


def test_a_group_that_is_not_there_is_refused_by_both_data_routes(house, refused):
    for path in ("predict", "predict/bulk"):
        for name in ("nobody", "G", "", "g%2F", "g%00"):
            answer = house.client.post(f"/v1/groups/{name}/{path}", content=asked(), headers=JSON)
            refused(answer, Bad(None, 404, "group_not_found", "group"))
