"""Packs of real scikit-learn models beside the models themselves, and how the two are compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import skops.io

from registry.signature import Signature
from workers.errors import PredictionFailedError
from workers.features import Features
from workers.packing.kernel import score
from workers.packing.layout import GOOD, Pack
from workers.packing.proof import prove_pack
from workers.packing.scoring import coded
from workers.runtimes.runtime import Binding
from workers.runtimes.sklearn import SKLEARN, SklearnModel

VALUE = ({"name": "y"},)


def classes(*labels: Any, shares: bool = True) -> Sequence[Mapping[str, Any]]:
    """Outputs of a classifier: its label, and the probabilities with `shares`."""
    label = {"name": "label", "kind": "label", "classes": list(labels)}
    return [label, {"name": "p", "kind": "probabilities", "classes": list(labels)}] if shares else [label]


def signature(
    inputs: Sequence[str], outputs: Sequence[Mapping[str, Any]] = VALUE, dtypes: Mapping[str, str] | None = None
) -> Signature:
    """A signature of nullable inputs, float64 unless `dtypes` says otherwise."""
    specs = [{"name": name, "dtype": (dtypes or {}).get(name, "float64"), "nullable": True} for name in inputs]
    return Signature.from_json({"inputs": specs, "outputs": list(outputs)})


def loaded(estimator: Any, of: Signature) -> SklearnModel:
    """The model of a fitted estimator, through the file that a user would register."""
    return SKLEARN.load(skops.io.dumps(estimator), Binding(of))


def packed(model: SklearnModel, of: Signature) -> Pack:
    """A model's pack, proved as a release proves it. Raises NotPackableError."""
    pack, probe = SKLEARN.pack(b"", model, of)
    prove_pack(pack, probe, model, of, SKLEARN.tolerance)
    return pack


def assert_agree(model: SklearnModel, pack: Pack, of: Signature, features: Features, *, slack: float = 0.0) -> int:
    """A pack answers and refuses as its model does, within 1e-12 relatively; answers how many rows are refused.

    `slack` is the size of what was added up where that is more than the answer: what nearly cancels out in a sum.
    """
    answers, states = score(pack.words, coded(pack.codes, features), of.width)
    good = np.flatnonzero(states == GOOD)
    if len(good):
        expected = model.predict(features.take(good))
        np.testing.assert_allclose(answers[good], expected, rtol=1e-12, atol=1e-12 * slack)
    refused = np.flatnonzero(states != GOOD)
    for row in refused:
        with_refusal = features.take(np.array([row]))
        try:
            model.predict(with_refusal)
        except PredictionFailedError:
            continue
        raise AssertionError(f"the pack refuses {with_refusal.matrix} {with_refusal.text}, the model answers it")
    return len(refused)
