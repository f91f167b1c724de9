"""The rows a model is tried on are those that its group's signature promises to callers."""

import numpy as np
import pytest

from registry.signature import Signature
from tests.support.toy_runtimes import ToyRuntime
from workers.builder.probe import ANY_TEXT, make_probe, try_model
from workers.errors import ProofFailedError, SignatureMismatchError
from workers.runtimes.runtime import Binding

SIGNATURE = Signature.from_json(
    {
        "inputs": [
            {"name": "price", "nullable": True},
            {"name": "count", "dtype": "int64", "default": 7},
            {"name": "brand", "dtype": "string", "categories": ["a", "b", "c"]},
            {"name": "store", "dtype": "string", "from_key": "store"},
            {"name": "note", "dtype": "string"},
            {"name": "promo", "dtype": "bool"},
        ],
        "outputs": [{"name": "sales"}],
    },
    ["store"],
)


def _numbers(*inputs) -> Signature:
    return Signature.from_json({"inputs": list(inputs), "outputs": [{"name": "y"}]})


def _try(data: bytes, signature: Signature) -> None:
    try_model(ToyRuntime().load(data, Binding(signature)), signature, make_probe(signature, {}))


def test_rows_are_typical_zero_and_at_the_ends_of_the_categories():
    probe = make_probe(SIGNATURE, {"store": "2"})
    assert probe.rows.matrix[:, 0].tolist() == [1.5, 0.0, 1.5]
    assert probe.rows.matrix[:, 1].tolist() == [7.0, 0.0, 1.0]
    assert probe.rows.matrix[:, 5].tolist() == [1.0, 0.0, 1.0]
    assert probe.rows.text == {2: ["a", "c", "a"], 3: ["2", "2", "2"], 4: [ANY_TEXT] * 3}


def test_one_row_lacks_whatever_may_be_missing():
    probe = make_probe(SIGNATURE, {})
    assert probe.missing is not None
    assert np.isnan(probe.missing.matrix[0, 0])
    assert probe.missing.matrix[0, 1] == 7.0
    assert make_probe(_numbers({"name": "x"}), {}).missing is None


def test_a_key_that_is_no_value_of_its_input_is_refused():
    signature = Signature.from_json(
        {"inputs": [{"name": "store", "dtype": "int64", "from_key": "store"}], "outputs": [{"name": "y"}]}, ["store"]
    )
    with pytest.raises(SignatureMismatchError) as refused:
        make_probe(signature, {"store": "seven"})
    assert refused.value.field == "store"


def test_answers_are_of_the_signatures_shape_and_finite():
    signature = _numbers({"name": "x"})
    _try(b"sum", signature)
    with pytest.raises(ProofFailedError, match="shape"):
        _try(b"misshapen", signature)
    with pytest.raises(ProofFailedError, match="infinity"):
        _try(b"infinite", signature)


def test_a_model_that_refuses_a_typical_row_is_refused_unless_it_reads_free_text():
    with pytest.raises(ProofFailedError, match="typical row: I know no such text"):
        _try(b"fussy", _numbers({"name": "x"}))
    _try(b"fussy", _numbers({"name": "x", "dtype": "string"}))


def test_a_model_that_needs_complete_rows_fits_only_a_signature_without_missing_values():
    _try(b"complete only", _numbers({"name": "x"}))
    with pytest.raises(SignatureMismatchError) as refused:
        _try(b"complete only", _numbers({"name": "x", "nullable": True}))
    assert refused.value.field == "x"
