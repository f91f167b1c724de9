"""What the packers of scikit-learn models are given, and what they answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry.signature import InputSpec
from workers.packing.layout import LABEL, Codes, Parts, Probe


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted estimator and how it is fed.

    Attributes:
        estimator: as scikit-learn has it.
        inputs: positions of the signature's inputs that are its columns.
        specs: of these inputs.
        framed: whether it is fed a DataFrame, of the inputs' dtypes, and not one matrix.
        shares: whether probabilities are asked of it.
    """

    estimator: Any
    inputs: Sequence[int]
    specs: Sequence[InputSpec]
    framed: bool
    shares: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What a packer understood of an estimator.

    Attributes:
        parts: its sections; the outputs are not in them yet.
        probe: where the proof must look.
        label: how it decides on a class.
        codes: as in a pack.
    """

    parts: Parts
    probe: Probe
    label: int = LABEL
    codes: Codes = ()
