"""What a runtime is: one short adapter that parses and runs one kind of artifact.

A runtime's `load` binds the model to its group's signature by name and answers a `LoadedModel`, whose scores are
always float64 in the layout of the signature's outputs, so that nothing above a runtime knows which one answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from registry.signature import Label, Signature
from workers.features import Features, Matrix
from workers.packing.layout import Pack, Probe
from workers.runtimes.sheet import Sheet


@dataclass(frozen=True, slots=True)
class Binding:
    """What a model is bound to when it is loaded.

    Attributes:
        signature: of the group.
        classes: the class labels of the model's own output columns, where its artifact lacks them; else empty.
    """

    signature: Signature
    classes: tuple[Label, ...] = ()


class LoadedModel(Protocol):
    """A native model in memory, bound to a signature.

    `predict` may be called from the event loop's thread and from pool threads at once. Its native memory is freed
    when the last reference goes, so whoever holds the object keeps it alive while it predicts.
    """

    @property
    def inputs(self) -> tuple[int, ...]:
        """Positions of the signature's inputs that this model reads, in the model's own order."""

    def predict(self, features: Features) -> Matrix:
        """Scores, float64, shape (rows, signature.width): value columns, class index of a label, probabilities.

        Probabilities are over the group's classes; a class the model never saw has 0.

        Raises:
            PredictionFailedError: if the native library refuses the rows.
        """

    def predict_rows(self, sheet: Sheet, rows: Sequence[int]) -> None:
        """Score some rows of a sheet in place: the same numbers as `predict`, without an array for each model.

        `rows` are distinct and ascending.

        Raises:
            PredictionFailedError: if the native library refuses the rows; their scores are then undefined.
        """


class Runtime(Protocol):
    """Parses one kind of artifact. Stateless; safe from any thread."""

    @property
    def name(self) -> str:
        """`lightgbm`, `onnx` or `sklearn`."""

    @property
    def in_python(self) -> bool:
        """Whether its models live in Python's own memory, too."""

    @property
    def tolerance(self) -> float:
        """How far, relatively, a pack's answers may be from the native ones; 0 where every bit must be equal."""

    def sniff(self, data: bytes) -> None:
        """Refuse bytes that are plainly another format, before anything parses them.

        Raises:
            ArtifactInvalidError: saying what the bytes look like and what was expected.
        """

    def load(self, data: bytes, binding: Binding) -> LoadedModel:
        """Parse and bind.

        Raises:
            ArtifactInvalidError: if the bytes do not parse or ask for more than is allowed.
            SignatureMismatchError: if inputs or outputs do not fit the signature.
        """

    def pack(self, data: bytes, model: LoadedModel, signature: Signature, /) -> tuple[Pack, Probe]:
        """The pack of a model that `load` made of these bytes, not proved yet, and where the proof must look.

        Raises:
            NotPackableError: if the model is none that a pack represents exactly.
        """
