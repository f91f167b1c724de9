"""Projection: from a native library's outputs to the score matrix of the group's signature.

A model answers numbers, class probabilities or class labels in its own order; the signature says which outputs the
group has and over which classes. The translation is planned once at load, where whatever does not fit is refused,
and is then a few array assignments.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.signature import Label, Signature
from workers.errors import PredictionFailedError, SignatureMismatchError
from workers.features import Matrix


class Projection:
    """How one model's outputs fill the signature's columns. Immutable after construction.

    Args:
        signature: of the group.
        values: how many number columns the model answers.
        classes: the classes of the model, in its own order; empty if it does not classify.

    Raises:
        SignatureMismatchError: if the outputs cannot fill the signature.
    """

    def __init__(self, signature: Signature, values: int, classes: Sequence[Any] = ()) -> None:
        self.width = signature.width
        self._outputs = signature.outputs
        wanted = sum(spec.columns for spec in signature.outputs if spec.kind == "value")
        if wanted and wanted != values:
            raise SignatureMismatchError(
                f"the signature's value outputs have {wanted} columns, the model answers {values}", field="outputs"
            )
        self.targets: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        if signature.classes:
            self.targets = np.array(class_targets(classes, signature.classes), dtype=np.intp)
        # Nothing to rearrange: value outputs lie side by side as the model answers them, and so do the probabilities
        # of a model that knows all classes in the group's order.
        self.identity = all(spec.kind == "value" for spec in signature.outputs) or (
            len(signature.outputs) == 1
            and signature.outputs[0].kind == "probabilities"
            and self.targets.tolist() == list(range(self.width))
        )

    @property
    def wants_labels(self) -> bool:
        """Whether an output is a label."""
        return any(spec.kind == "label" for spec in self._outputs)

    @property
    def wants_probabilities(self) -> bool:
        """Whether an output is probabilities."""
        return any(spec.kind == "probabilities" for spec in self._outputs)

    def of(self, native: Matrix) -> Matrix:
        """Scores from what a LightGBM model answers: values, or probabilities (of two classes only the second's)."""
        scores: Matrix = np.empty((len(native), self.width))
        if not len(self.targets):
            self.fill(scores, values=native)
        elif native.shape[1] == 1:
            self.fill(scores, probabilities=np.concatenate((1.0 - native, native), axis=1))
        else:
            self.fill(scores, probabilities=native)
        return scores

    def fill(
        self,
        scores: Matrix,
        *,
        values: Matrix | None = None,
        probabilities: Matrix | None = None,
        labels: NDArray[np.intp] | None = None,
    ) -> None:
        """Fill `scores`, shape (rows, width), from the model's outputs, one row each.

        `values` and `probabilities` have a column for each number and class; `labels` are positions in the model's
        classes. Without `labels` a label is the class of highest probability (the first of equals, as the native
        libraries decide).
        """
        at = taken = 0
        for spec in self._outputs:
            if spec.kind == "value":
                assert values is not None
                scores[:, at : at + spec.width] = values[:, taken : taken + spec.width]
                taken += spec.width
            elif spec.kind == "label":
                scores[:, at] = self._label_columns(probabilities, labels)
            else:
                assert probabilities is not None
                scores[:, at : at + spec.columns] = 0.0
                scores[:, at + self.targets] = probabilities
            at += spec.columns

    def _label_columns(self, probabilities: Matrix | None, labels: NDArray[np.intp] | None) -> Any:
        if labels is None:
            assert probabilities is not None
            if not np.isfinite(probabilities).all():
                raise PredictionFailedError(
                    "the model answers probabilities that are not finite: no class is likeliest"
                )
            labels = probabilities.argmax(axis=1)
        return self.targets[labels]


def class_targets(classes: Sequence[Any], group: Sequence[Label]) -> tuple[int, ...]:
    """For each of a model's classes, its position among the group's classes.

    Text, integers and booleans are told apart, but a whole float (scikit-learn keeps the dtype of y) is its integer.

    Raises:
        SignatureMismatchError: if the model has no classes, repeats one, or knows one that the group lacks.
    """
    if not classes:
        raise SignatureMismatchError(
            f"the signature has the classes {list(group)}, but the model does not classify", field="outputs"
        )
    known = {(type(label), label): position for position, label in enumerate(group)}
    labels = [_label(label) for label in classes]
    for label in labels:
        if (type(label), label) not in known:
            raise SignatureMismatchError(
                f"the model knows the class {label!r}, which is none of the group's {list(group)}", field="classes"
            )
    targets = tuple(known[type(label), label] for label in labels)
    if len(set(targets)) != len(targets):
        raise SignatureMismatchError(f"the model names a class twice: {labels}", field="classes")
    return targets


def _label(label: Any) -> Any:
    value = label.item() if isinstance(label, np.generic) else label
    return int(value) if type(value) is float and value.is_integer() else value
