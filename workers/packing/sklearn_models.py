"""scikit-learn models as packs: from a fitted estimator to the packer that understands it.

An estimator is known by the name of its type; the artifact was allowed nothing but scikit-learn's own. What a packer
does not find as this version of the library writes it is no pack, and what it misunderstood its proof finds out.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from registry.signature import Signature
from workers.packing.layout import NotPackableError, Pack, Probe, assembled
from workers.packing.outputs import outputs_of
from workers.packing.sklearn_fitted import Fitted, Reading
from workers.packing.sklearn_histograms import read_histograms
from workers.packing.sklearn_linear import read_linear
from workers.packing.sklearn_trees import read_boosting, read_forest, read_tree
from workers.runtimes.projection import Projection

_TREES: Final[Mapping[str, Callable[[Fitted], Reading]]] = {
    **dict.fromkeys(
        ("DecisionTreeRegressor", "DecisionTreeClassifier", "ExtraTreeRegressor", "ExtraTreeClassifier"), read_tree
    ),
    **dict.fromkeys(
        ("RandomForestRegressor", "RandomForestClassifier", "ExtraTreesRegressor", "ExtraTreesClassifier"), read_forest
    ),
    **dict.fromkeys(("GradientBoostingRegressor", "GradientBoostingClassifier"), read_boosting),
    **dict.fromkeys(("HistGradientBoostingRegressor", "HistGradientBoostingClassifier"), read_histograms),
}


def pack_sklearn(fitted: Fitted, signature: Signature, projection: Projection) -> tuple[Pack, Probe]:
    """The pack of a fitted estimator, not proved yet, and where the proof must look.

    Raises:
        NotPackableError: if it is none that a pack represents exactly.
    """
    if hasattr(fitted.estimator, "classes_") and not signature.classes:
        raise NotPackableError("shape", "it answers its labels as numbers")
    try:
        reading = _TREES.get(type(fitted.estimator).__name__, read_linear)(fitted)
    except (AttributeError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise NotPackableError("shape", f"it is not as this scikit-learn writes it: {error!r}"[:200]) from error
    outputs, targets = outputs_of(signature, projection, reading.parts.raw, reading.label)
    words = assembled(replace(reading.parts, outputs=outputs, targets=targets))
    return Pack(words, reading.codes), reading.probe
