"""Bad input is a problem with its code, and its field and row where it has them; and nothing has changed."""

import gzip
import io
import os
import pickle
import zipfile
from typing import Any, NamedTuple

import joblib
import numpy as np
import orjson
import pyarrow as pa
import pytest

from tests.support import models
from tests.support.constant import constant
from tests.support.house import running_house
from tests.support.state import RECORDS, state_of
from tests.support.tables import STREAM, arrow_stream, imported, made_live, parquet, parquet_file, read_stream

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


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A house with one live model, under small limits."""
    with running_house(tmp_path_factory.mktemp("bad"), **LIMITS) as house:
        made_live(house, house.create("g", signature=SIGNATURE), [{**KEY, "model": constant(1)}])
        yield house


@pytest.fixture
def refused(house):
    """Checks how a request was refused; at the end, that the home is as it was and still answers."""
    before = state_of(house.home)

    def check(answer, bad):
        assert answer.status_code == bad.status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert (body["code"], body.get("field"), body.get("row")) == (bad.code, bad.field, bad.row), body
        assert body["status"] == bad.status
        assert body["request_id"] == answer.headers["x-request-id"]
        assert body["detail"]

    yield check
    house.until(lambda: not list(house.assembly.context.store.staged_names()))
    assert state_of(house.home) == before
    assert house.predict(G, KEY).json()["predictions"] == [1.0]


# Single predicts


def asked(key=KEY, instances=(GOOD,), **more):
    return orjson.dumps({"key": key, "instances": list(instances), **more})


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


def test_query_parameters_are_refused_where_there_are_none(house, refused):
    unknown = house.client.post(f"{G}/predict?max_fallback_level=0", content=asked(), headers=JSON)
    refused(unknown, Bad(None, 400, "parameter_invalid"))
    for query, field in (
        ("max_fallback_level=1&max_fallback_level=1", "max_fallback_level"),
        ("max_fallback_level=-1", "max_fallback_level"),
        ("max_fallback_level=", "max_fallback_level"),
        ("explain=1", "explain"),
    ):
        for content, headers in ((bulk([ROW]), JSON), (arrow(), STREAM)):
            answer = house.client.post(f"{G}/predict/bulk?{query}", content=content, headers=headers)
            refused(answer, Bad(None, 400, "parameter_invalid", field))


# Bulks: what concerns all rows

COLUMNS = ["store", "brand", "price", "feat"]
ROW = ["1", "a", 1.0, 0]


def bulk(data, columns=COLUMNS, **more):
    return orjson.dumps({"columns": columns, "data": data, **more})


@table(
    a_missing_key_column=Bad(bulk([["1", 1.0]], ["store", "price"]), 400, "key_field_missing", "brand"),
    an_unknown_column=Bad(bulk([[*ROW, 1]], [*COLUMNS, "prize"]), 400, "feature_unknown", "prize"),
    a_column_twice=Bad(bulk([[*ROW, 1]], [*COLUMNS, "feat"]), 400, "body_invalid", "columns"),
    a_column_that_is_no_name=Bad(bulk([[*ROW, 1]], [*COLUMNS, ["feat"]]), 400, "body_invalid", "columns"),
    no_data=Bad(orjson.dumps({"columns": COLUMNS}), 400, "body_invalid", "data"),
    no_rows=Bad(bulk([]), 400, "rows_empty", "data"),
    too_many_rows=Bad(bulk([ROW] * 17), 400, "too_many_rows", "data"),
    no_row_objects=Bad(orjson.dumps({"rows": []}), 400, "rows_empty", "rows"),
    too_many_row_objects=Bad(orjson.dumps({"rows": [KEY | GOOD] * 17}), 400, "too_many_rows", "rows"),
    rows_and_data=Bad(bulk([ROW], rows=[]), 400, "body_invalid"),
    an_unknown_member=Bad(bulk([ROW], key=KEY), 400, "body_invalid", "key"),
    a_number_for_explain=Bad(bulk([ROW], explain=1), 400, "body_invalid", "explain"),
    a_text_level=Bad(bulk([ROW], max_fallback_level="0"), 400, "body_invalid", "max_fallback_level"),
)
def test_a_bulk_that_is_bad_as_a_whole_is_refused(house, refused, bad):
    refused(house.client.post(f"{G}/predict/bulk", content=bad.sent, headers=JSON), bad)


def arrow(rows=1, **changes):
    columns = {"store": ["1"] * rows, "brand": ["a"] * rows, "price": [1.0] * rows} | changes
    return arrow_stream(pa.table({name: column for name, column in columns.items() if column is not None}))


@table(
    nothing=Bad(b"", 400, "arrow_invalid"),
    nonsense=Bad(b"nonsense", 400, "arrow_invalid"),
    json=Bad(bulk([ROW]), 400, "arrow_invalid"),
    a_file_in_place_of_a_stream=Bad(b"ARROW1\0\0" + arrow(), 400, "arrow_invalid"),
    half_a_stream=Bad(arrow(8)[: len(arrow(8)) // 2], 400, "arrow_invalid"),
    text_as_numbers=Bad(arrow(price=["1.0"]), 400, "feature_type", "price"),
    booleans_as_numbers=Bad(arrow(price=[True]), 400, "feature_type", "price"),
    floats_as_integers=Bad(arrow(feat=[1.0]), 400, "feature_type", "feat"),
    numbers_as_booleans=Bad(arrow(promo=[1]), 400, "feature_type", "promo"),
    numbers_as_text=Bad(arrow(colour=[1]), 400, "feature_type", "colour"),
    integers_as_timestamps=Bad(arrow(week=[1]), 400, "feature_type", "week"),
    float_keys=Bad(arrow(store=[1.0]), 400, "key_type", "store"),
    boolean_keys=Bad(arrow(store=[True]), 400, "key_type", "store"),
    a_missing_key_column=Bad(arrow(brand=None), 400, "key_field_missing", "brand"),
    a_missing_feature=Bad(arrow(price=None), 400, "feature_missing", "price"),
    an_unknown_column=Bad(arrow(prize=[1]), 400, "feature_unknown", "prize"),
    no_rows=Bad(arrow(0, store=pa.array([], pa.string()), brand=pa.array([], pa.string())), 400, "rows_empty", "rows"),
    too_many_rows=Bad(arrow(17), 400, "too_many_rows", "rows"),
    too_many_bytes=Bad(arrow(store=["x" * 65536]), 413, "body_too_large"),
    a_bomb=Bad(arrow_stream(pa.table({"price": np.zeros(1_000_000)}), compression="zstd"), 413, "body_too_large"),
)
def test_a_bad_arrow_stream_is_refused(house, refused, bad):
    refused(house.client.post(f"{G}/predict/bulk", content=bad.sent, headers=STREAM), bad)


# Bulks: what concerns one row is an error of that row alone

BAD_ROWS = [
    (KEY | {"store": 1.5} | GOOD, "key_type", "store"),
    (KEY | {"store": True} | GOOD, "key_type", "store"),
    (KEY | {"store": None} | GOOD, "key_type", "store"),
    (KEY | {"brand": ""} | GOOD, "key_type", "brand"),
    (KEY | {"brand": "x" * 513} | GOOD, "key_too_long", "brand"),
    (KEY | {"price": "1.0"}, "feature_type", "price"),
    (KEY | {"price": True}, "feature_type", "price"),
    (KEY | {"price": None}, "feature_null", "price"),
    (KEY | GOOD | {"feat": 1.5}, "feature_type", "feat"),
    (KEY | GOOD | {"colour": "green"}, "feature_type", "colour"),
    (KEY | GOOD | {"cost": -1e39}, "feature_type", "cost"),
    (KEY | GOOD | {"store": "9"}, "partition_not_found", None),
]
FULL = {"feat": 0, "colour": "red", "cost": 0}


def interleaved():
    """Every bad row, a good one before and behind them."""
    return [KEY | GOOD, *(row for row, _, _ in BAD_ROWS), KEY | GOOD]


def test_a_bad_row_of_a_json_bulk_is_an_error_of_that_row_alone(house):
    before = state_of(house.home)
    rows = [FULL | row for row in interleaved()]
    columns = list(rows[0])
    for body in ({"rows": rows}, {"columns": columns, "data": [[row[name] for name in columns] for row in rows]}):
        answer = house.client.post(f"{G}/predict/bulk", json=body)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert [(error["row"], error["code"], error.get("field")) for error in told["errors"]] == [
            (row, code, field) for row, (_, code, field) in enumerate(BAD_ROWS, 1)
        ]
        assert told["predictions"] == [1.0, *[None] * len(BAD_ROWS), 1.0]
        assert told["fallback_level"] == [0, *[None] * len(BAD_ROWS), 0]
    assert state_of(house.home) == before


def test_a_bad_row_of_an_arrow_bulk_is_an_error_of_that_row_alone(house):
    nan, infinity = float("nan"), float("inf")
    rows = [
        (KEY | GOOD, None),
        (KEY | {"price": nan}, "feature_null"),
        (KEY | {"price": None}, "feature_null"),
        (KEY | {"price": infinity}, "feature_type"),
        (KEY | GOOD | {"feat": None}, "feature_null"),
        (KEY | GOOD | {"colour": "green"}, "feature_type"),
        (KEY | GOOD | {"cost": 1e39}, "feature_type"),
        (KEY | GOOD | {"store": None}, "key_type"),
        (KEY | GOOD | {"store": ""}, "key_type"),
        (KEY | GOOD | {"brand": "x" * 513}, "key_too_long"),
        (KEY | GOOD | {"store": "9"}, "partition_not_found"),
    ]
    sent = pa.Table.from_pylist([FULL | row for row, _ in rows])
    for stream in (arrow_stream(sent), arrow_stream(sent.set_column(0, "feat", sent["feat"].cast(pa.int32())))):
        answer = house.client.post(f"{G}/predict/bulk", content=stream, headers=STREAM)
        assert answer.status_code == 200, answer.text
        told = read_stream(answer.content).to_pydict()
        assert told["error_code"] == [code for _, code in rows]
        assert told["sales"] == [1.0, *[None] * (len(rows) - 1)]


# Registrations that are refused by their request


def registering(params=KEY, content=b"tree", **headers):
    sent = {"x-model-runtime": "lightgbm"} | {name.replace("_", "-"): text for name, text in headers.items()}
    return {"params": params, "content": content, "headers": {name: text for name, text in sent.items() if text}}


def saying(meta):
    return registering(x_model_meta=meta if isinstance(meta, str) else orjson.dumps(meta).decode())


@table(
    a_missing_key_field=Bad(registering({"store": "1"}), 400, "key_field_missing", "brand"),
    an_unknown_key_field=Bad(registering(KEY | {"region": "nw"}), 400, "key_field_unknown", "region"),
    an_empty_key=Bad(registering(KEY | {"brand": ""}), 400, "key_type", "brand"),
    a_long_key=Bad(registering(KEY | {"brand": "x" * 513}), 400, "key_too_long", "brand"),
    a_key_field_twice=Bad(registering("store=1&brand=a&store=1"), 400, "parameter_invalid", "store"),
    no_runtime=Bad(registering(x_model_runtime=""), 400, "parameter_invalid", "x-model-runtime"),
    an_unknown_runtime=Bad(registering(x_model_runtime="pickle"), 400, "parameter_invalid", "x-model-runtime"),
    a_form=Bad(registering(content_type="multipart/form-data; boundary=x"), 415, "unsupported_media_type"),
    gzip=Bad(registering(content_encoding="gzip"), 415, "unsupported_media_type", "content-encoding"),
    too_many_bytes=Bad(registering(content=b"tree" * 40_000), 413, "body_too_large"),
    meta_that_is_no_json=Bad(saying("{"), 400, "meta_invalid", "x-model-meta"),
    meta_that_is_a_list=Bad(saying([]), 400, "meta_invalid", "x-model-meta"),
    meta_with_an_unknown_member=Bad(saying({"tag": {}}), 400, "meta_invalid", "tag"),
    a_tag_that_is_a_number=Bad(saying({"tags": {"a": 1}}), 400, "meta_invalid", "tags.a"),
    a_tag_that_is_deep=Bad(saying(f'{{"tags":{{"a":{DEEP.decode()}}}}}'), 400, "meta_invalid", "tags.a"),
    a_metric_that_is_text=Bad(saying({"metrics": {"rmse": "1"}}), 400, "meta_invalid", "metrics.rmse"),
    a_metric_that_is_nan=Bad(saying('{"metrics":{"rmse":NaN}}'), 400, "meta_invalid", "x-model-meta"),
    a_provenance_that_is_a_list=Bad(saying({"provenance": ["run"]}), 400, "meta_invalid", "provenance"),
    a_class_twice=Bad(saying({"classes": ["a", "a"]}), 400, "meta_invalid", "classes"),
    examples_without_answers=Bad(saying({"examples": {"instances": [[1]]}}), 400, "meta_invalid", "examples"),
    deep_examples=Bad(
        saying(f'{{"examples":{{"instances":[{DEEP.decode()}],"predictions":[1]}}}}'), 400, "meta_invalid", "examples"
    ),
)
def test_a_registration_is_refused_by_its_request(house, refused, bad):
    refused(house.client.post(f"{G}/models", **bad.sent), bad)


def test_a_key_that_is_no_utf8_is_refused(house, refused):
    answer = house.client.post(f"{G}/models?store=1&brand=%ff", **registering(None))
    refused(answer, Bad(None, 400, "parameter_invalid"))


def test_an_upload_without_a_length_is_refused_as_soon_as_it_is_too_long(house, refused):
    def chunks():
        for _ in range(20):
            yield b"tree" * 4000

    answer = house.client.post(f"{G}/models", **registering(content=chunks()))
    refused(answer, Bad(None, 413, "upload_too_large"))


# Registrations that are refused by their artifact


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def zipped(**members):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name.replace("_", "."), data)
    return sink.getvalue()


def half(tiny):
    return tiny.runtime, tiny.data[: len(tiny.data) // 2]


WIDE = ("price", "cost", "feat", "promo")
TEXT = models.lightgbm_regressor(1, features=WIDE)
SYSTEM = '{"__class__":"system","__module__":"os","__loader__":"FunctionNode","content":{}}'


@table(
    a_pickle_named_onnx=Bad(("onnx", pickle.dumps({"model": 1})), 400, "artifact_invalid"),
    a_pickle_named_lightgbm=Bad(("lightgbm", pickle.dumps({"model": 1}, 0)), 400, "artifact_invalid"),
    nothing=Bad(("lightgbm", b""), 400, "artifact_invalid"),
    half_a_text=Bad(half(TEXT), 400, "artifact_invalid"),
    half_a_graph=Bad(half(models.onnx_sum(("price",))), 400, "artifact_invalid"),
    half_a_skops_file=Bad(half(models.ridge()), 400, "artifact_invalid"),
    a_text_named_sklearn=Bad(("sklearn", TEXT.data), 400, "artifact_invalid"),
    a_gzipped_text=Bad(("lightgbm", gzip.compress(TEXT.data)), 400, "artifact_invalid"),
    a_graph_with_weights_elsewhere=Bad(("onnx", models.onnx_external_data()), 400, "artifact_invalid"),
    a_zip_that_is_a_bomb=Bad(("sklearn", zipped(schema_json=b" " * 40_000_000)), 400, "artifact_invalid"),
    a_skops_file_of_functions=Bad(("sklearn", zipped(schema_json=SYSTEM)), 400, "artifact_invalid"),
    an_unknown_feature=Bad(
        ("lightgbm", models.lightgbm_regressor(features=("price", "rain")).data), 400, "signature_mismatch", "rain"
    ),
    too_few_unnamed_features=Bad(("sklearn", models.ridge(named=False).data), 400, "signature_mismatch"),
    text_where_the_model_has_no_categories=Bad(
        ("lightgbm", models.lightgbm_regressor(features=("price", "colour")).data), 400, "signature_mismatch", "colour"
    ),
    several_outputs_for_one=Bad(
        ("lightgbm", models.lightgbm_multiclass(features=("price", "cost")).data), 400, "signature_mismatch", "outputs"
    ),
)
def test_a_registration_is_refused_by_its_artifact(house, refused, bad):
    runtime, data = bad.sent
    refused(house.client.post(f"{G}/models", **registering(content=data, x_model_runtime=runtime)), bad)


@table(
    that_disagree=Bad(([{"price": 1}], [2]), 400, "example_mismatch", "examples.predictions.0"),
    with_a_missing_input=Bad(([{"feat": 1}], [1]), 400, "meta_invalid", "examples.instances.0.price"),
    with_an_unknown_input=Bad(([{"price": 1, "x": 1}], [1]), 400, "meta_invalid", "examples.instances.0.x"),
    with_text_for_a_number=Bad(([{"price": "1"}], [1]), 400, "meta_invalid", "examples.instances.0.price"),
    with_an_answer_that_is_none=Bad(([{"price": 1}], ["x"]), 400, "meta_invalid", "examples.predictions.0"),
)
def test_a_registration_is_refused_by_its_examples(house, refused, bad):
    instances, predictions = bad.sent
    sent = saying({"examples": {"instances": instances, "predictions": predictions}}) | {"content": constant(1)}
    refused(house.client.post(f"{G}/models", **sent), bad)


def test_a_pickle_is_never_opened(house, refused, tmp_path):
    canary = tmp_path / "canary"
    packed = io.BytesIO()
    joblib.dump(Canary(canary), packed, compress=3)
    plain = pickle.dumps(Canary(canary))
    for data in (plain, packed.getvalue(), zipped(data_pkl=plain, schema_json="{}"), b"tree\n" + plain):
        for runtime in ("lightgbm", "onnx", "sklearn"):
            answer = house.client.post(f"{G}/models", **registering(content=data, x_model_runtime=runtime))
            refused(answer, Bad(None, 400, "artifact_invalid"))
    assert not canary.exists()


# Imports: the file is taken and judged by the builder, and its record tells


def columns(**changes):
    given = {"store": ["2"], "brand": ["a"], "model": pa.array([constant(2)], pa.binary()), "runtime": ["lightgbm"]}
    return pa.table({name: column for name, column in (given | changes).items() if column is not None})


@table(
    nonsense=Bad(b"nonsense", 0, "parquet_invalid"),
    half_a_file=Bad(parquet([KEY])[:200], 0, "parquet_invalid"),
    no_models=Bad(parquet_file(columns(model=None)), 0, "parquet_invalid", "model"),
    models_that_are_text=Bad(parquet_file(columns(model=["tree"])), 0, "parquet_invalid", "model"),
    float_keys=Bad(parquet_file(columns(store=[2.0])), 0, "parquet_invalid", "store"),
    an_unknown_column=Bad(parquet_file(columns(region=["nw"])), 0, "parquet_invalid", "region"),
    no_rows=Bad(parquet_file(columns().slice(0, 0)), 0, "parquet_invalid"),
    tags_that_are_text=Bad(parquet_file(columns(tags=["a"])), 0, "parquet_invalid", "tags"),
)
def test_a_bad_file_fails_its_import_and_leaves_only_the_record(house, bad):
    without = RECORDS | {"imports", "groups"}
    before = state_of(house.home, without=without)
    record = imported(house, G, bad.sent)
    assert record["state"] == "failed"
    assert (record["error"]["code"], record["error"]["field"]) == (bad.code, bad.field), record["error"]
    assert (record["registered"], record["release"]) == (0, None)
    house.until(lambda: not list(house.assembly.context.store.staged_names()))
    assert state_of(house.home, without=without) == before


def test_bad_rows_of_a_file_are_told_each_by_itself_and_nothing_is_registered(house):
    good = {"store": "2", "brand": "a", "model": constant(2)}
    rows = [
        (good, None, None),
        (good | {"model": None}, "artifact_invalid", "model"),
        (good | {"model": pickle.dumps(1), "runtime": "onnx"}, "artifact_invalid", None),
        (good | {"model": constant(2)[:200]}, "artifact_invalid", None),
        (good | {"runtime": "pickle"}, "artifact_invalid", "runtime"),
        (good | {"runtime": None}, "artifact_invalid", "runtime"),
        (good | {"store": ""}, "key_type", "store"),
        (good | {"store": "x" * 513}, "key_too_long", "store"),
        (good | {"brand": None}, "key_field_missing", "brand"),
        (good | {"model": models.lightgbm_regressor(features=("price", "rain")).data}, "signature_mismatch", "rain"),
        (good | {"tags": {"a": "x" * 300}}, "meta_invalid", "tags.a"),
    ]
    # What the good row brought to the store is named by nothing now: gc sweeps it.
    without = RECORDS | {"imports", "import_rejects", "groups", "files"}
    before = state_of(house.home, without=without)
    record = imported(house, G, parquet([row for row, _, _ in rows]))
    assert (record["state"], record["registered"]) == ("failed", 0), record
    told = house.client.get(f"{G}/imports/{record['import']}/rejects").json()["rejects"]
    expected = [(row, code, field) for row, (_, code, field) in enumerate(rows) if code]
    assert [(item["row"], item["code"], item["field"]) for item in told] == expected
    house.until(lambda: not list(house.assembly.context.store.staged_names()))
    assert state_of(house.home, without=without) == before


@table(
    an_unknown_choice=Bad({"params": {"on_error": "maybe"}}, 400, "parameter_invalid", "on_error"),
    a_choice_twice=Bad({"params": "on_error=skip&on_error=fail"}, 400, "parameter_invalid", "on_error"),
    an_unknown_parameter=Bad({"params": {"store": "1"}}, 400, "parameter_invalid", "store"),
    an_unknown_runtime=Bad({"headers": {"x-model-runtime": "x"}}, 400, "parameter_invalid", "x-model-runtime"),
    a_form=Bad({"headers": {"content-type": "multipart/form-data; boundary=x"}}, 415, "unsupported_media_type"),
    gzip=Bad({"headers": {"content-encoding": "gzip"}}, 415, "unsupported_media_type", "content-encoding"),
    nothing=Bad({"content": b""}, 400, "parquet_invalid"),
    too_many_bytes=Bad({"content": b"PAR1" * 70_000}, 413, "body_too_large"),
)
def test_an_import_is_refused_by_its_request(house, refused, bad):
    refused(house.client.post(f"{G}/models/bulk", **({"content": b"PAR1"} | bad.sent)), bad)


# Control


def defining(**changes):
    return "POST", "", {"json": {"name": "new", "key": ["store"], "signature": SIGNATURE} | changes}


def inputs(**changes):
    return defining(signature={"inputs": [{"name": "x"} | changes], "outputs": [{"name": "y"}]})


def outputs(**changes):
    return defining(signature={"inputs": [{"name": "x"}], "outputs": [{"name": "y"} | changes]})


def raw(content, **headers):
    return "POST", "", {"content": content, "headers": JSON | headers}


def promoting(body, **headers):
    return (
        "PUT",
        "/g/deployments",
        {"json": body, "headers": {name.replace("_", "-"): v for name, v in headers.items()}},
    )


def holding(params=KEY, **body):
    return "PUT", "/g/holds", {"params": params, "json": {"action": "disable", "reason": "r"} | body}


def building(**body):
    return "POST", "/g/releases", {"json": body}


def listing(params, path="/g/models"):
    return "GET", path, {"params": params}


@table(
    a_group_twice=Bad(defining(name="g"), 409, "group_exists", "name"),
    a_name_with_a_line_break=Bad(defining(name="new\n"), 400, "group_invalid", "name"),
    a_name_with_a_zero_byte=Bad(defining(name="ne\0w"), 400, "group_invalid", "name"),
    a_name_that_is_a_path=Bad(defining(name="../new"), 400, "group_invalid", "name"),
    a_name_of_64_characters=Bad(defining(name="n" * 64), 400, "group_invalid", "name"),
    a_name_of_other_letters=Bad(defining(name="n\u0435w"), 400, "group_invalid", "name"),
    a_name_that_is_a_number=Bad(defining(name=5), 400, "body_invalid", "name"),
    a_key_field_with_a_dash=Bad(defining(key=["store-id"]), 400, "group_invalid", "key"),
    a_key_field_with_a_line_break=Bad(defining(key=["store\n"]), 400, "group_invalid", "key"),
    a_reserved_key_field=Bad(defining(key=["group"]), 400, "group_invalid", "key"),
    nine_key_fields=Bad(defining(key=list("abcdefghi")), 400, "group_invalid", "key"),
    a_fallback_level_twice=Bad(defining(fallback=[[], []]), 400, "group_invalid", "fallback"),
    an_unknown_dtype=Bad(inputs(dtype="decimal"), 400, "body_invalid", "signature.inputs.0.dtype"),
    a_default_of_another_dtype=Bad(inputs(default="1"), 400, "signature_invalid", "signature.inputs.0"),
    a_default_past_float32=Bad(inputs(dtype="float32", default=1e39), 400, "signature_invalid", "signature.inputs.0"),
    a_null_default_that_may_not_be=Bad(inputs(default=None), 400, "signature_invalid", "signature.inputs.0"),
    categories_of_a_number=Bad(inputs(categories=["a"]), 400, "signature_invalid", "signature.inputs.0"),
    an_input_of_no_key_field=Bad(inputs(from_key="region"), 400, "signature_invalid", "signature.inputs.0"),
    a_text_for_nullable=Bad(inputs(nullable="yes"), 400, "body_invalid", "signature.inputs.0.nullable"),
    an_unknown_kind=Bad(outputs(kind="score"), 400, "body_invalid", "signature.outputs.0.kind"),
    one_class=Bad(outputs(kind="label", classes=["a"]), 400, "signature_invalid", "signature.outputs.0"),
    no_width=Bad(outputs(width=0), 400, "signature_invalid", "signature.outputs.0"),
    an_unknown_member=Bad(defining(sharding=1), 400, "body_invalid", "sharding"),
    a_member_twice=Bad(raw(b'{"name":"new","name":"new"}'), 400, "json_invalid", "name"),
    broken_json=Bad(raw(b'{"name":'), 400, "json_invalid"),
    deep_json=Bad(raw(b"[" * 2000 + b"]" * 2000), 400, "json_invalid"),
    a_list=Bad(raw(b"[]"), 400, "body_invalid"),
    too_many_bytes=Bad(raw(b'{"name":"%s"}' % (b"x" * 4096)), 413, "body_too_large"),
    text=Bad(
        ("POST", "", {"content": b"{}", "headers": {"content-type": "text/plain"}}), 415, "unsupported_media_type"
    ),
    gzip=Bad(
        ("POST", "", {"content": b"{}", "headers": JSON | {"content-encoding": "gzip"}}),
        415,
        "unsupported_media_type",
        "content-encoding",
    ),
    a_deletion_without_confirmation=Bad(("DELETE", "/g", {}), 400, "confirmation_required", "confirm"),
    a_deletion_with_another_name=Bad(
        ("DELETE", "/g", {"params": {"confirm": "G"}}), 400, "confirmation_required", "confirm"
    ),
    a_confirmation_twice=Bad(("DELETE", "/g", {"params": "confirm=g&confirm=g"}), 400, "parameter_invalid", "confirm"),
    a_deletion_of_no_group=Bad(("DELETE", "/no", {"params": {"confirm": "no"}}), 404, "group_not_found", "group"),
    a_limit_of_nothing=Bad(listing({"limit": "0"}), 400, "parameter_invalid", "limit"),
    a_limit_too_high=Bad(listing({"limit": "1001"}), 400, "parameter_invalid", "limit"),
    a_negative_limit=Bad(listing({"limit": "-1"}), 400, "parameter_invalid", "limit"),
    a_limit_that_is_no_number=Bad(listing({"limit": "ten"}), 400, "parameter_invalid", "limit"),
    a_limit_of_other_digits=Bad(listing({"limit": "\u0661\u0660"}), 400, "parameter_invalid", "limit"),
    a_cursor_of_nobody=Bad(listing({"cursor": "nonsense"}), 400, "cursor_invalid", "cursor"),
    an_empty_cursor=Bad(listing({"cursor": ""}), 400, "cursor_invalid", "cursor"),
    a_cursor_twice=Bad(listing("cursor=a&cursor=a"), 400, "parameter_invalid", "cursor"),
    a_filter_of_no_key_field=Bad(listing({"region": "nw"}), 400, "key_field_unknown", "region"),
    a_filter_of_nothing=Bad(listing({"store": ""}), 400, "key_type", "store"),
    too_many_parameters=Bad(listing("&".join(f"tag.{i}=a" for i in range(65))), 400, "parameter_invalid"),
    a_history_of_half_a_key=Bad(listing({"store": "1"}, "/g/models/history"), 400, "key_field_missing", "brand"),
    a_history_of_nothing=Bad(listing(KEY | {"store": "9"}, "/g/models/history"), 404, "version_not_found"),
    a_deletion_of_no_model=Bad(("DELETE", "/g/models", {"params": KEY | {"store": "9"}}), 404, "version_not_found"),
    an_import_of_no_number=Bad(listing({}, "/g/imports/one"), 404, "import_not_found"),
    a_release_of_no_number=Bad(listing({}, "/g/releases/01"), 404, "release_not_found"),
    a_release_that_is_not_there=Bad(listing({}, "/g/releases/99"), 404, "release_not_found", "release"),
    a_base_that_is_not_there=Bad(building(base=99), 404, "release_not_found", "release"),
    a_base_that_is_text=Bad(building(base="1"), 400, "body_invalid", "base"),
    a_version_that_is_not_there=Bad(building(set=[{"key": KEY, "version": 9}]), 404, "version_not_found", "set", 0),
    a_version_without_a_key=Bad(building(set=[{"version": 1}]), 400, "body_invalid", "set.0.key"),
    a_version_of_a_float_key=Bad(building(set=[{"key": KEY | {"store": 1.0}, "version": 1}]), 400, "key_type", "store"),
    a_negative_gate=Bad(building(gates={"max_lost": -1}), 400, "body_invalid", "gates.max_lost"),
    an_unknown_gate=Bad(building(gates={"max_new": 1}), 400, "body_invalid", "gates.max_new"),
    half_the_traffic=Bad(promoting({"blue": {"release": 1, "traffic": 50}}), 400, "deployment_invalid", "blue.traffic"),
    too_much_traffic=Bad(promoting({"blue": {"release": 1, "traffic": 101}}), 400, "body_invalid", "blue.traffic"),
    no_deployment=Bad(promoting({}), 400, "deployment_invalid", "deployments"),
    two_deployments=Bad(
        promoting({"blue": {"release": 1}, "green": {"release": 1}}), 400, "deployment_invalid", "deployments"
    ),
    a_promotion_of_nothing=Bad(promoting({"blue": {"release": 99}}), 404, "release_not_found", "release"),
    a_promotion_of_release_0=Bad(promoting({"blue": {"release": 0}}), 400, "body_invalid", "blue.release"),
    a_tag_without_quotes=Bad(promoting({"blue": {"release": 1}}, if_match="1-1"), 400, "parameter_invalid", "if-match"),
    a_tag_of_nobody=Bad(promoting({"blue": {"release": 1}}, if_match='"x"'), 412, "precondition_failed", "if-match"),
    a_weak_tag=Bad(promoting({"blue": {"release": 1}}, if_match='W/"1-1"'), 412, "precondition_failed", "if-match"),
    a_pin_without_a_version=Bad(holding(action="pin"), 400, "hold_invalid", "version"),
    a_pin_to_no_version=Bad(holding(action="pin", version=9), 404, "version_not_found"),
    a_version_on_a_disable=Bad(holding(version=1), 400, "hold_invalid", "version"),
    an_unknown_action=Bad(holding(action="stop"), 400, "body_invalid", "action"),
    a_hold_without_a_reason=Bad(holding(reason=""), 400, "body_invalid", "reason"),
    a_hold_that_has_ended=Bad(holding(until="2020-01-01"), 400, "hold_invalid", "until"),
    a_hold_until_no_time=Bad(holding(until="soon"), 400, "hold_invalid", "until"),
    a_hold_until_after_the_calendar=Bad(holding(until="9999-12-31T23:59:59-14:00"), 400, "hold_invalid", "until"),
    a_hold_on_half_a_key=Bad(holding({"store": "1"}), 400, "key_field_missing", "brand"),
    a_hold_on_a_key_field_twice=Bad(holding("store=1&brand=a&brand=a"), 400, "parameter_invalid", "brand"),
    a_hold_to_drop_that_is_not_there=Bad(("DELETE", "/g/holds", {"params": KEY}), 404, "hold_not_found"),
)
def test_a_bad_control_request_is_refused(house, refused, bad):
    method, path, sent = bad.sent
    refused(house.client.request(method, f"/v1/groups{path}", **sent), bad)
    assert [group["name"] for group in house.client.get("/v1/groups").json()["groups"]] == ["g"]


@table(
    no_group=Bad("store=1&brand=a", 400, "parameter_invalid", "group"),
    an_unknown_group=Bad("group=no&store=1&brand=a", 404, "group_not_found", "group"),
    half_a_key=Bad("group=g&store=1", 400, "key_field_missing", "brand"),
    an_unknown_field=Bad("group=g&store=1&brand=a&region=nw", 400, "key_field_unknown", "region"),
    a_field_twice=Bad("group=g&store=1&brand=a&store=1", 400, "parameter_invalid", "store"),
    an_empty_field=Bad("group=g&store=1&brand=", 400, "key_type", "brand"),
    a_key_without_a_model=Bad("group=g&store=9&brand=a", 404, "partition_not_found"),
)
def test_a_bad_lookup_is_refused(house, refused, bad):
    refused(house.client.get(f"/v1/discovery/lookup?{bad.sent}"), bad)


def test_a_bad_wait_is_refused(house, refused):
    for wait in ("soon", "-1s", "1h", "1e3", "\u0661s"):
        answer = house.client.get("/v1/discovery/snapshot", params={"since": "x", "wait": wait})
        refused(answer, Bad(None, 400, "parameter_invalid", "wait"))


def test_there_is_no_way_back_from_the_first_release(house):
    from manymodels import Client
    from manymodels.cli.session import HouseTransport
    from manymodels.errors import NothingReadyError

    before = state_of(house.home)
    with Client(HouseTransport(house)) as client, pytest.raises(NothingReadyError):
        client.rollback("g")
    assert state_of(house.home) == before
