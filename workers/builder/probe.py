"""Rows that a model has never seen but must be able to answer: what its group's signature promises to callers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from registry.errors import MetaInvalidError
from registry.signature import InputSpec, Signature
from workers.builder.examples import key_cell, layout
from workers.errors import PredictionFailedError, ProofFailedError, SignatureMismatchError
from workers.features import Features
from workers.runtimes.runtime import LoadedModel

ANY_TEXT: Final = "?"
ANY_MOMENT: Final = "2026-01-01T00:00:00+00:00"
_TYPICAL: Final[Mapping[str, Any]] = {
    "float64": 1.5,
    "float32": 1.5,
    "int64": 1,
    "bool": True,
    "string": ANY_TEXT,
    "timestamp": ANY_MOMENT,
}
_ZERO: Final[Mapping[str, Any]] = {
    "float64": 0.0,
    "float32": 0.0,
    "int64": 0,
    "bool": False,
    "string": ANY_TEXT,
    "timestamp": "1970-01-01T00:00:00+00:00",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """Rows to try. `missing` leaves out all that may be missing; None where nothing may."""

    rows: Features
    missing: Features | None


def make_probe(signature: Signature, key: Mapping[str, str]) -> Probe:
    """Typical cells, zeros, the first and the last category; and once everything missing that may be.

    Raises:
        SignatureMismatchError: if the key's own text is no value of an input that it feeds.
    """
    rows = [_cells(spec, key) for spec in signature.inputs]
    nullable = [spec.nullable for spec in signature.inputs]
    missing = [[None if may else cells[0]] for may, cells in zip(nullable, rows, strict=True)]
    return Probe(layout(signature, rows), layout(signature, missing) if any(nullable) else None)


def try_model(model: LoadedModel, signature: Signature, probe: Probe) -> None:
    """Score the probe rows.

    Raises:
        ProofFailedError: if an answer has the wrong shape or is infinite, or typical rows cannot be scored.
        SignatureMismatchError: if the signature allows missing values that the model cannot take.
    """
    try:
        _check(model, signature, probe.rows)
    except PredictionFailedError as error:
        if not _reads_free_text(model, signature):  # which texts such a model knows, only its author can say
            raise ProofFailedError(f"the model cannot score a typical row: {error.detail}") from error
    if probe.missing is None or not any(signature.inputs[at].nullable for at in model.inputs):
        return
    try:
        _check(model, signature, probe.missing)
    except PredictionFailedError as error:
        if not _reads_free_text(model, signature):
            names = [signature.inputs[at].name for at in model.inputs if signature.inputs[at].nullable]
            raise SignatureMismatchError(
                f"the signature lets {names[:5]} be missing, which the model cannot take: {error.detail}",
                field=names[0],
            ) from error


def _check(model: LoadedModel, signature: Signature, rows: Features) -> None:
    scores = model.predict(rows)
    if scores.shape != (len(rows), signature.width):
        raise ProofFailedError(f"the model answers shape {scores.shape} for {len(rows)} rows of {signature.width}")
    if np.isinf(scores).any():
        raise ProofFailedError("the model answers infinity for a typical row")


def _reads_free_text(model: LoadedModel, signature: Signature) -> bool:
    read: Sequence[InputSpec] = [signature.inputs[at] for at in model.inputs]
    return any(spec.dtype == "string" and not spec.categories for spec in read)


def _cells(spec: InputSpec, key: Mapping[str, str]) -> list[Any]:
    if spec.from_key is not None and spec.from_key in key:
        try:
            return [key_cell(spec, key[spec.from_key], spec.name)] * 3
        except MetaInvalidError as error:
            raise SignatureMismatchError(error.detail, field=spec.name) from error
    if spec.categories:
        return [spec.categories[0], spec.categories[-1], spec.categories[0]]
    typical = spec.default if spec.default is not None else _TYPICAL[spec.dtype]
    return [typical, _ZERO[spec.dtype], _TYPICAL[spec.dtype]]
