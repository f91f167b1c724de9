"""The scikit-learn runtime: estimators and pipelines in skops files.

An estimator is fed what pandas would feed it: a DataFrame with the signature's names and dtypes where it was fitted
on one and may care, the bare matrix where that gives the same numbers for a tenth of the time.
"""

import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from registry.signature import InputSpec, Signature
from workers.errors import ArtifactInvalidError, PredictionFailedError, SignatureMismatchError
from workers.features import Features, Matrix
from workers.packing.layout import Pack, Probe
from workers.packing.sklearn_fitted import Fitted
from workers.packing.sklearn_models import pack_sklearn
from workers.runtimes.binding import bind_count, bind_inputs
from workers.runtimes.projection import Projection
from workers.runtimes.runtime import Binding, LoadedModel
from workers.runtimes.sheet import Sheet, score_gathered
from workers.runtimes.sklearn_file import open_file, sniff_file

_thread: Final = threading.local()


class SklearnRuntime:
    """Parses skops files."""

    name: Final = "sklearn"
    in_python: Final = True
    tolerance: Final = 1e-12

    def sniff(self, data: bytes) -> None:
        """See `Runtime.sniff`."""
        sniff_file(data)

    def load(self, data: bytes, binding: Binding) -> "SklearnModel":
        """See `Runtime.load`."""
        sniff_file(data)
        estimator = open_file(data)
        if not callable(getattr(estimator, "predict", None)):
            raise ArtifactInvalidError(f"a {type(estimator).__name__} does not predict")
        try:
            return SklearnModel(estimator, binding)
        except AttributeError as error:
            raise ArtifactInvalidError(f"the estimator is not fitted: {error}"[:500]) from error

    def pack(self, _data: bytes, model: LoadedModel, signature: Signature) -> tuple[Pack, Probe]:
        """See `Runtime.pack`."""
        assert isinstance(model, SklearnModel)
        return pack_sklearn(model.fitted, signature, model.projection)


class SklearnModel:
    """A fitted estimator bound to a signature. Predicting only reads it, so threads may share it."""

    def __init__(self, estimator: Any, binding: Binding) -> None:
        signature = binding.signature
        names = getattr(estimator, "feature_names_in_", None)
        self.inputs = (
            bind_count(int(estimator.n_features_in_), signature)
            if names is None
            else bind_inputs([str(name) for name in names], signature)
        )
        self._estimator = _single_threaded(estimator)
        self._specs = [signature.inputs[position] for position in self.inputs]
        self._taken = np.array(self.inputs, dtype=np.intp)
        self._classes: NDArray[Any] | None = _classes(estimator)
        self.projection = _projection(estimator, self._classes, binding)
        self._framed = names is not None and not _strip_names(estimator, self._specs)
        if any(spec.dtype == "string" for spec in self._specs) and not self._framed:
            raise SignatureMismatchError("a model fitted without feature names cannot read text inputs", field="inputs")
        self._dtype = np.float32 if all(spec.dtype == "float32" for spec in self._specs) else np.float64

    @property
    def fitted(self) -> Fitted:
        """The estimator and how it is fed."""
        return Fitted(
            self._estimator, self.inputs, self._specs, framed=self._framed, shares=self.projection.wants_probabilities
        )

    def predict(self, features: Features) -> Matrix:
        """See `LoadedModel.predict`."""
        scores: Matrix = np.empty((len(features), self.projection.width))
        if not len(features):
            return scores
        _limit_threads()
        rows = self._frame(features) if self._framed else self._matrix(features)
        try:
            self._score(rows, scores)
        except PredictionFailedError:
            raise
        except Exception as error:  # whatever the estimator raises is about these rows
            raise PredictionFailedError(f"scikit-learn refuses the rows: {error}"[:500]) from error
        return scores

    def predict_rows(self, sheet: Sheet, rows: Sequence[int]) -> None:
        """See `LoadedModel.predict_rows`."""
        score_gathered(self, sheet, rows)

    def _score(self, rows: Any, scores: Matrix) -> None:
        if self._classes is None or not len(self.projection.targets):
            values = np.asarray(self._estimator.predict(rows), dtype=np.float64).reshape(len(scores), -1)
            if values.shape[1] != self.projection.width:
                raise PredictionFailedError(
                    f"the model answers {values.shape[1]} numbers a row, the signature has {self.projection.width}"
                )
            self.projection.fill(scores, values=values)
            return
        labels = probabilities = None
        if self.projection.wants_labels:
            # Estimators keep their classes sorted; their own decision may differ from the largest probability.
            labels = np.searchsorted(self._classes, self._estimator.predict(rows))
        if self.projection.wants_probabilities:
            probabilities = self._estimator.predict_proba(rows)
        self.projection.fill(scores, labels=labels, probabilities=probabilities)

    def _matrix(self, features: Features) -> Any:
        return features.matrix.take(self._taken, axis=1).astype(self._dtype, copy=False)

    def _frame(self, features: Features) -> Any:
        return pd.DataFrame(
            {
                spec.name: _column(features, position, spec)
                for position, spec in zip(self.inputs, self._specs, strict=True)
            }
        )


def _column(features: Features, position: int, spec: InputSpec) -> Any:
    """One input as pandas would hold it: integers and booleans keep their dtype unless a value is missing."""
    if position in features.text:
        return np.array([np.nan if text is None else text for text in features.text[position]], dtype=object)
    if position in features.exact:
        return features.exact[position]
    column = features.matrix[:, position]
    if spec.dtype == "float32":
        return column.astype(np.float32)
    if spec.dtype == "int64" and not np.isnan(column).any():
        return column.astype(np.int64)
    if spec.dtype == "bool" and not np.isnan(column).any():
        return column.astype(np.bool_)
    return column


def _classes(estimator: Any) -> NDArray[Any] | None:
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, list):
        raise SignatureMismatchError("a model with several label outputs is not supported", field="outputs")
    return None if classes is None else np.asarray(classes)


def _projection(estimator: Any, classes: NDArray[Any] | None, binding: Binding) -> Projection:
    signature = binding.signature
    if not signature.classes:
        if classes is not None and classes.dtype.kind not in "biuf":
            raise SignatureMismatchError("the model answers text labels, the signature wants numbers", field="outputs")
        return Projection(signature, _value_count(estimator))
    if any(spec.kind == "value" for spec in signature.outputs):
        raise SignatureMismatchError("a scikit-learn model answers numbers or classes, not both", field="outputs")
    labels: Sequence[Any] = () if classes is None else classes.tolist()
    if labels and binding.classes:
        if len(binding.classes) != len(labels):
            raise SignatureMismatchError(
                f"the model has {len(labels)} classes, its author names {len(binding.classes)}", field="classes"
            )
        labels = binding.classes
    projection = Projection(signature, 0, labels)
    if projection.wants_probabilities and not hasattr(estimator, "predict_proba"):
        raise SignatureMismatchError(f"{type(_last(estimator)).__name__} answers no probabilities", field="outputs")
    return projection


def _value_count(estimator: Any) -> int:
    """Numbers that a prediction of one row has."""
    last = _last(estimator)
    if hasattr(last, "n_outputs_"):
        return int(last.n_outputs_)
    if type(last).__name__ == "MultiOutputRegressor":
        return len(last.estimators_)
    coefficients = getattr(last, "coef_", None)
    if coefficients is not None and np.ndim(coefficients) == 2 and not hasattr(last, "classes_"):
        return int(np.shape(coefficients)[0])
    return 1


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if type(estimator).__name__ == "Pipeline" else estimator


def _strip_names(estimator: Any, specs: Sequence[InputSpec]) -> bool:
    """Make an estimator take a bare matrix without a warning, if that gives the same numbers as a DataFrame."""
    if any(spec.dtype == "string" for spec in specs):
        return False
    first = estimator.steps[0][1] if type(estimator).__name__ == "Pipeline" else estimator
    narrow = {spec.dtype == "float32" for spec in specs}
    if not _reads_one_matrix(first) or len(narrow) > 1:
        return False
    vars(first).pop("feature_names_in_", None)
    vars(estimator).pop("feature_names_in_", None)
    return True


def _reads_one_matrix(estimator: Any) -> bool:
    """Whether an estimator turns its input into one array of numbers before anything else, as simple ones do."""
    module = type(estimator).__module__
    if module.startswith("sklearn.ensemble._hist_gradient_boosting"):
        return getattr(estimator, "is_categorical_", None) is None
    return module.startswith(
        (
            "sklearn.linear_model.",
            "sklearn.tree.",
            "sklearn.ensemble._forest",
            "sklearn.ensemble._gb",
            "sklearn.preprocessing._data",
        )
    )


def _single_threaded(estimator: Any) -> Any:
    """Set every `n_jobs` inside to 1: a fleet runs models side by side, not one on many cores."""
    jobs = [name for name in estimator.get_params(deep=True) if name.rpartition("__")[2] == "n_jobs"]
    return estimator.set_params(**dict.fromkeys(jobs, 1)) if jobs else estimator


def _limit_threads() -> None:
    """Cap OpenMP and BLAS at one thread. OpenMP keeps its limit by thread, hence once for each that predicts."""
    if not hasattr(_thread, "limits"):
        _thread.limits = threadpool_limits(limits=1)


SKLEARN: Final = SklearnRuntime()
