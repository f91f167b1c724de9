"""The ONNX runtime: graphs run by onnxruntime on one CPU thread.

Sessions have no memory arena and no memory pattern, because a fleet has thousands of them, each rarely used, and no
thread pools, because models run side by side, never one on many cores.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime

from registry.signature import Signature
from workers.errors import ArtifactInvalidError, PredictionFailedError, SignatureMismatchError
from workers.features import Features, Matrix
from workers.packing.layout import NotPackableError, Pack, Probe
from workers.runtimes.onnx_file import ModelFacts, read_model, sniff_model
from workers.runtimes.onnx_inputs import Feeder
from workers.runtimes.projection import Projection
from workers.runtimes.runtime import Binding, LoadedModel
from workers.runtimes.sheet import Sheet, score_gathered

_LABEL_TYPES: Final = frozenset({"tensor(int64)", "tensor(int32)", "tensor(string)", "tensor(bool)"})
_NUMBER_TYPES: Final = frozenset({"tensor(float)", "tensor(double)"})


class OnnxRuntime:
    """Parses ONNX models."""

    name: Final = "onnx"
    in_python: Final = False
    tolerance: Final = 0.0

    def sniff(self, data: bytes) -> None:
        """See `Runtime.sniff`."""
        sniff_model(data)

    def load(self, data: bytes, binding: Binding) -> "OnnxModel":
        """See `Runtime.load`."""
        sniff_model(data)
        facts = read_model(data)
        return OnnxModel(_session(data), facts, binding)

    def pack(self, _data: bytes, _model: LoadedModel, _signature: Signature) -> tuple[Pack, Probe]:
        """See `Runtime.pack`: there is none."""
        raise NotPackableError("runtime", "an ONNX graph has no pack")


class OnnxModel:
    """A session bound to a signature. onnxruntime allows concurrent runs of one session."""

    def __init__(self, session: Any, facts: ModelFacts, binding: Binding) -> None:
        signature = binding.signature
        self._session = session
        self._feeder = Feeder(session.get_inputs(), facts.features, signature)
        self.inputs = self._feeder.inputs
        outputs = session.get_outputs()
        self._classes: Sequence[Any] = ()
        if signature.classes:
            self._chosen = _class_outputs(outputs, signature)
            self._classes = facts.classes or binding.classes or _by_count(outputs, signature)
            self._projection = Projection(signature, 0, binding.classes or self._classes)
        else:
            self._chosen = _value_outputs(outputs, signature)
            self._projection = Projection(signature, _columns(outputs, self._chosen, signature))

    def predict(self, features: Features) -> Matrix:
        """See `LoadedModel.predict`."""
        if not len(features):
            return np.empty((0, self._projection.width))
        if self._feeder.one_row and len(features) != 1:
            return np.concatenate([self.predict(features.take(np.array([row]))) for row in range(len(features))])
        feed = self._feeder.feed(features)
        try:
            native = self._session.run(self._chosen, feed)
        except Exception as error:  # onnxruntime raises its own dozen types, all about these rows
            raise PredictionFailedError(f"onnxruntime refuses the rows: {error}"[:500]) from error
        if not len(self._projection.targets):
            values = [_by_row(part, len(features)) for part in native]
            # Value outputs lie side by side in the signature's order, as chosen at load.
            return _checked(values[0] if len(values) == 1 else np.concatenate(values, axis=1), self._projection.width)
        scores: Matrix = np.empty((len(features), self._projection.width))
        self._fill_classes(scores, native)
        return scores

    def predict_rows(self, sheet: Sheet, rows: Sequence[int]) -> None:
        """See `LoadedModel.predict_rows`."""
        score_gathered(self, sheet, rows)

    def _fill_classes(self, scores: Matrix, native: Sequence[Any]) -> None:
        labels = probabilities = None
        for part in native:
            if isinstance(part, list):  # a ZipMap: one mapping from label to probability a row
                probabilities = _unzipped(part, self._classes)
            elif part.dtype.kind == "f":
                probabilities = _both(_by_row(part, len(scores)))
            else:
                labels = self._positions(part.reshape(-1), len(scores))
        if probabilities is not None:
            _checked(probabilities, len(self._projection.targets))
        self._projection.fill(scores, labels=labels, probabilities=probabilities)

    def _positions(self, labels: Any, rows: int) -> Any:
        if labels.size != rows:
            raise PredictionFailedError(f"the model answers {labels.size} labels to {rows} rows")
        # A graph that names no classes answers them by name or by number.
        known: dict[Any, int] = {position: position for position in range(len(self._classes))}
        known |= {label: position for position, label in enumerate(self._classes)}
        try:
            return np.array([known[label] for label in labels.tolist()], dtype=np.intp)
        except KeyError as error:
            raise PredictionFailedError(f"the model answers the label {error}, which none of its classes is") from error


def _session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # what goes wrong is raised; the rest would be printed to our stderr
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own dozen types, all about this file
        raise ArtifactInvalidError(f"onnxruntime cannot load the model: {error}"[:500]) from error


def _value_outputs(outputs: Sequence[Any], signature: Signature) -> list[str]:
    """The graph's outputs that fill the signature's: by name, else all of them in order."""
    by_name = {entry.name: entry for entry in outputs}
    wanted = [spec.name for spec in signature.outputs]
    chosen = [by_name[name] for name in wanted] if set(wanted) <= set(by_name) else list(outputs)
    for entry in chosen:
        if entry.type not in _NUMBER_TYPES and entry.type not in _LABEL_TYPES - {"tensor(string)"}:
            raise SignatureMismatchError(
                f"the output {entry.name!r} is {entry.type}, the signature wants numbers", field=entry.name
            )
    if len(chosen) > len(wanted):
        raise SignatureMismatchError(
            f"the graph's outputs {[entry.name for entry in chosen]} are more than the signature's {wanted}; name "
            "the signature's outputs like the graph's",
            field="outputs",
        )
    return [entry.name for entry in chosen]


def _columns(outputs: Sequence[Any], chosen: Sequence[str], signature: Signature) -> int:
    """Numbers a row has in the chosen outputs; what the graph leaves open is taken to fit, and checked when run."""
    shapes = [entry.shape for entry in outputs if entry.name in chosen]
    widths = [1 if len(shape) == 1 else shape[-1] for shape in shapes]
    return sum(widths) if all(isinstance(width, int) for width in widths) else signature.width


def _class_outputs(outputs: Sequence[Any], signature: Signature) -> list[str]:
    """The graph's outputs that a classification needs: its labels, its probabilities."""
    kinds = {spec.kind for spec in signature.outputs}
    if "value" in kinds:
        raise SignatureMismatchError("an ONNX model answers numbers or classes, not both", field="outputs")
    labels = [entry.name for entry in outputs if entry.type in _LABEL_TYPES]
    numbers = [entry.name for entry in outputs if entry.type in _NUMBER_TYPES or entry.type.startswith("seq(map(")]
    if len(labels) > 1 or len(numbers) > 1:
        raise SignatureMismatchError(
            f"the graph's outputs {[entry.name for entry in outputs]} are more than a label and probabilities",
            field="outputs",
        )
    if "probabilities" in kinds and not numbers:
        raise SignatureMismatchError("the graph has no output of probabilities", field="outputs")
    if "label" in kinds:
        return labels + (numbers if "probabilities" in kinds or not labels else [])
    return numbers


def _by_count(outputs: Sequence[Any], signature: Signature) -> tuple[Any, ...]:
    """The group's classes for a graph that names none, where its probabilities are as many."""
    widths = [entry.shape[-1] for entry in outputs if entry.type in _NUMBER_TYPES and len(entry.shape) == 2]
    count = len(signature.classes)
    return signature.classes if widths and widths[0] in (count, {2: 1}.get(count)) else ()


def _unzipped(rows: Sequence[Mapping[Any, float]], classes: Sequence[Any]) -> Matrix:
    try:
        return np.array([[row[label] for label in classes] for row in rows], dtype=np.float64)
    except KeyError as error:
        raise PredictionFailedError(f"the model answers no probability of its class {error}") from error


def _by_row(native: Any, rows: int) -> Matrix:
    if native.shape[:1] != (rows,):
        raise PredictionFailedError(f"the model answers shape {native.shape} to {rows} rows")
    return np.asarray(native, dtype=np.float64).reshape(rows, -1)


def _both(probabilities: Matrix) -> Matrix:
    """A single column is the probability of the second of two classes."""
    if probabilities.shape[1] == 1:
        return np.concatenate((1.0 - probabilities, probabilities), axis=1)
    return probabilities


def _checked(native: Matrix, columns: int) -> Matrix:
    if native.shape[1] != columns:
        raise PredictionFailedError(f"the model answers {native.shape[1]} numbers a row, {columns} were expected")
    return native


ONNX: Final = OnnxRuntime()
