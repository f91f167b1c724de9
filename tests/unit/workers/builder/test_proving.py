"""Real artifacts of three runtimes are proved; what is not what it says is refused, in words that name the fault."""

import hashlib
import pickle

import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

from registry.artifacts.frames import decompress
from registry.errors import Problem
from registry.keys import KeySchema
from registry.records import ModelMeta
from registry.signature import Signature
from tests.support import models
from workers.builder import proving
from workers.builder.proof import BulkRow, ProofContext, ProofRequest, ProvedRow, RefusedRow
from workers.builder.proving import prove, prove_row
from workers.errors import ProofFailedError
from workers.packing import wire

SCHEMA = KeySchema(("store", "brand"), fallback=(("brand",), ()))
KEY = SCHEMA.key(["2", "tropicana"])


def _context(inputs=("price", "feat"), outputs=None, **changes) -> ProofContext:
    specs = [spec if isinstance(spec, dict) else {"name": spec} for spec in inputs]
    signature = Signature.from_json({"inputs": specs, "outputs": outputs or [{"name": "sales"}]}, SCHEMA.fields)
    return ProofContext(SCHEMA, signature, **({"artifact_bytes": 1 << 20} | changes))


def _classes(*classes):
    return [{"name": "p", "kind": "probabilities", "classes": list(classes)}]


CONTEXT = _context()


def _prove(model, meta=None, context=CONTEXT):
    return prove(context, ProofRequest(KEY, model.runtime, model.data, meta or ModelMeta()))


def _refused(model, meta=None, context=CONTEXT) -> Problem:
    with pytest.raises(Problem) as refused:
        _prove(model, meta, context)
    return refused.value


@pytest.mark.parametrize(
    "make",
    [models.lightgbm_regressor, models.ridge, models.forest, models.hist_boosting, models.onnx_ridge, models.onnx_sum],
)
def test_a_real_model_of_every_runtime_is_proved(make):
    model = make()
    proof = _prove(model)
    assert proof.digest == hashlib.sha256(model.data).hexdigest()
    assert proof.size == len(model.data)
    assert decompress(proof.frame, proof.size) == model.data
    assert sorted(proof.inputs) == [0, 1]
    assert 1024 <= proof.heap < 20_000_000


COLOURS = _context(("price", "feat", {"name": "colour", "dtype": "string"}))


def test_a_good_model_is_registered_whatever_breaks_in_packing_it(monkeypatch):
    model = models.ridge()
    assert _prove(model).verdict == "packed"
    for error in (MemoryError(), ZeroDivisionError(), RecursionError(), ProofFailedError("it broke")):

        def broken(*_given, error=error):
            raise error

        monkeypatch.setattr(proving, "prove_pack", broken)
        proof = _prove(model)
        assert (proof.verdict, proof.pack, proof.pack_size) == ("shape", b"", 0)
        assert decompress(proof.frame, proof.size) == model.data


def test_a_scaler_that_flattens_its_input_leaves_its_model_to_its_library():
    model = make_pipeline(MinMaxScaler(), Ridge()).fit(models.frame(9), range(9))
    model[0].scale_ *= 0.0
    assert _prove(models.TinyModel("sklearn", None, skops.io.dumps(model))).verdict == "shape"


def test_a_model_whose_categories_are_no_text_that_can_be_written_stays_with_its_library():
    context = _context(({"name": "colour", "dtype": "string"},))
    for colour, verdict in (("red", "packed"), ("\ud800", "shape")):
        table = pd.DataFrame({"colour": pd.Series([colour, "green"] * 9, dtype=object)})
        native = make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge()).fit(table, range(18))
        assert _prove(models.TinyModel("sklearn", None, skops.io.dumps(native)), context=context).verdict == verdict


def test_a_model_with_more_categories_than_a_reader_takes_stays_with_its_library(monkeypatch):
    model = models.lightgbm_categorical(("red", "green"), name="colour")
    codes = len(b'[[2,[["red",0],["green",1]]]]')
    for most, verdict in ((16 + codes, "packed"), (15 + codes, "shape")):
        monkeypatch.setattr(wire, "MOST_CODES", most)
        assert _prove(model, context=COLOURS).verdict == verdict


def test_the_heap_grows_with_the_model():
    small, large = (_prove(models.lightgbm_regressor(trees=trees)).heap for trees in (5, 200))
    assert large > 5 * small


def test_a_model_may_use_a_subset_of_the_inputs_in_another_order():
    context = _context(("a", "feat", "b", "price"))
    assert _prove(models.lightgbm_regressor(features=("price", "feat")), context=context).inputs == (3, 1)


@pytest.mark.parametrize("make", [models.lightgbm_regressor, models.ridge])
def test_a_model_with_an_input_that_the_group_lacks_is_refused_naming_it(make):
    problem = _refused(make(features=("price", "colour")))
    assert problem.code == "signature_mismatch"
    assert "colour" in problem.detail


@pytest.mark.parametrize("runtime", ["lightgbm", "onnx", "sklearn"])
@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 64, pickle.dumps({"a": 1}), pickle.dumps([1], protocol=0), b"{}", b"PK\x03\x04" + b"\xff" * 60],
)
def test_bytes_of_another_format_are_refused(runtime, data):
    problem = _refused(models.TinyModel(runtime, None, data))
    assert problem.code == "artifact_invalid"


@pytest.mark.parametrize("make", [models.lightgbm_regressor, models.ridge, models.onnx_ridge])
@pytest.mark.parametrize("part", [0.1, 0.3, 0.5])
def test_a_truncated_model_is_refused(make, part):
    model = make()
    problem = _refused(model._replace(data=model.data[: int(len(model.data) * part)]))
    assert problem.code in {"artifact_invalid", "signature_mismatch", "proof_failed"}


def test_a_model_under_the_header_of_another_runtime_is_refused():
    problem = _refused(models.ridge()._replace(runtime="lightgbm"))
    assert problem.code == "artifact_invalid"


def test_external_data_is_refused():
    problem = _refused(models.TinyModel("onnx", None, models.onnx_external_data()))
    assert problem.code == "artifact_invalid"


def test_examples_that_agree_are_accepted_and_others_refuse_the_model():
    model = models.lightgbm_regressor()
    rows = models.frame(3, seed=9)
    instances = rows.to_dict("records")
    predictions = model.native.predict(rows, num_threads=1).tolist()
    _prove(model, ModelMeta(examples={"instances": instances, "predictions": predictions}))
    predictions[1] *= 1 + 1e-6
    problem = _refused(model, ModelMeta(examples={"instances": instances, "predictions": predictions}))
    assert (problem.code, problem.field) == ("example_mismatch", "examples.predictions.1")


def test_malformed_examples_are_refused_by_cell():
    meta = ModelMeta(examples={"instances": [{"price": 1.0, "feat": "x"}], "predictions": [1.0]})
    problem = _refused(models.ridge(), meta)
    assert (problem.code, problem.field) == ("meta_invalid", "examples.instances.0.feat")


def test_classes_come_from_the_artifact_or_from_its_author():
    three = _context(outputs=_classes("lo", "mid", "hi"))
    _prove(models.logistic(("lo", "hi")), context=three)
    _prove(models.lightgbm_multiclass(), ModelMeta(classes=("hi", "lo", "mid")), three)


def test_a_class_that_the_group_lacks_is_refused():
    two = _context(outputs=_classes("lo", "hi"))
    assert _refused(models.logistic(("lo", "huge")), context=two).code == "signature_mismatch"
    problem = _refused(models.lightgbm_binary(), ModelMeta(classes=("lo", "huge")), two)
    assert problem.code == "signature_mismatch"


def test_a_class_list_of_the_wrong_length_is_refused():
    three = _context(outputs=_classes("lo", "mid", "hi"))
    problem = _refused(models.lightgbm_multiclass(), ModelMeta(classes=("lo", "hi")), three)
    assert problem.code == "signature_mismatch"


def test_a_model_that_cannot_take_what_the_signature_lets_be_missing_is_refused():
    context = _context(({"name": "price", "nullable": True}, "feat"))
    _prove(models.lightgbm_regressor(), context=context)
    _prove(models.hist_boosting(), context=context)
    problem = _refused(models.ridge(), context=context)
    assert (problem.code, problem.field) == ("signature_mismatch", "price")


def test_a_pipeline_on_text_is_proved_with_the_categories_of_its_group():
    context = _context(("price", "feat", {"name": "brand", "dtype": "string", "from_key": "brand"}))
    _prove(models.pipeline(), context=context)


def test_a_row_of_a_bulk_file_is_proved_under_the_runtime_of_its_file():
    model = models.ridge()
    row = BulkRow(4, {"store": None, "brand": "tropicana"}, None, model.data, {"tags": {"region": "nw"}})
    proved = prove_row(_context(runtime="sklearn"), row)
    assert isinstance(proved, ProvedRow)
    assert (proved.row, proved.key.text, proved.runtime) == (4, "brand=tropicana", "sklearn")
    assert proved.meta.tags == {"region": "nw"}


def test_a_bad_row_is_refused_with_its_number_and_key():
    row = BulkRow(7, {"store": "2", "brand": "a/b"}, "lightgbm", b"nonsense", {})
    refused = prove_row(CONTEXT, row)
    assert isinstance(refused, RefusedRow)
    assert (refused.row, refused.key, refused.problem.code) == (7, "store=2/brand=a%2Fb", "artifact_invalid")


def test_a_row_without_runtime_is_refused():
    refused = prove_row(CONTEXT, BulkRow(0, {"store": "2", "brand": "b"}, None, models.ridge().data, {}))
    assert isinstance(refused, RefusedRow)
    assert refused.problem.field == "runtime"
