"""From a model's outputs to the columns of its group's signature: a projection, as a pack carries it."""

from collections.abc import Sequence

from registry.signature import Signature
from workers.packing.layout import LABEL, PROBABILITIES, NotPackableError
from workers.runtimes.projection import Projection

Outputs = Sequence[tuple[int, int, int]]


def outputs_of(
    signature: Signature, projection: Projection, raw: int, label: int = LABEL
) -> tuple[Outputs, Sequence[int]]:
    """Kind, columns and first column of each output, and each class's position; both empty if raw is all there is.

    `raw` are the numbers that the model answers, `label` how it decides on a class.

    Raises:
        NotPackableError: if the outputs are such that no projection fits.
    """
    targets = projection.targets.tolist()
    if projection.identity and raw == signature.width:
        return (), ()
    if not targets or len(targets) != max(raw, 2):
        raise NotPackableError("shape", f"it answers {raw} numbers for {signature.width} columns")
    outputs = []
    column = 0
    for spec in signature.outputs:
        if spec.kind == "value":
            raise NotPackableError("shape", "numbers and classes in one signature")
        outputs.append((PROBABILITIES if spec.kind == "probabilities" else label, spec.columns, column))
        column += spec.columns
    return outputs, targets
