"""A bad registration is a problem with its code and field; nothing of it is kept, and nothing in it is run."""

import gzip
import io
import os
import pickle
import zipfile

import joblib
import orjson

from tests.support import models
from tests.support.constant import constant
from tests.support.refusals import DEEP, KEY, Bad, G, table


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
