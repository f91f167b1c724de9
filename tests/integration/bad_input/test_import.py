"""A bad import is refused at once, or its record and its rejects say why; and nothing is registered."""

import pickle

import pyarrow as pa

from tests.support import models
from tests.support.constant import constant
from tests.support.refusals import KEY, Bad, G, table
from tests.support.state import RECORDS, state_of
from tests.support.tables import imported, parquet, parquet_file
from tests.support.waiting import until


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
    until(lambda: not list(house.assembly.context.store.staged_names()))
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
    until(lambda: not list(house.assembly.context.store.staged_names()))
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
