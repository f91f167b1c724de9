"""Example rows with their expected answers: the author's own test of a model, run before it may be registered.

Rows and answers have the JSON form of a predict call, so that an author can paste what the service will say. Read
cell by cell: examples are few, and a plain reading is the best check of the fast one. Pure functions; no I/O.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from registry.errors import MetaInvalidError
from registry.signature import InputSpec, OutputSpec, Signature, cell_of_text, default_fits, timestamp_micros
from workers.errors import ExampleMismatchError
from workers.features import Features, Matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_INTEGERS: Final = 2**53
RELATIVE: Final[Mapping[str, float]] = {"lightgbm": 1e-9}  # computes in float64 throughout
RELATIVE_ELSEWHERE: Final = 1e-6  # exported graphs may compute in float32


def example_features(signature: Signature, instances: Sequence[Any], key: Mapping[str, str]) -> Features:
    """Lay out example rows: objects by input name, or arrays in signature order. `key` feeds `from_key` inputs.

    Raises:
        MetaInvalidError: naming the cell at fault as `examples.instances.<row>.<input>`.
    """
    cells = [_row_cells(signature, instance, key, f"examples.instances.{i}") for i, instance in enumerate(instances)]
    columns = [[row[position] for row in cells] for position in range(len(signature.inputs))]
    return layout(signature, columns)


def layout(signature: Signature, columns: Sequence[Sequence[Any]]) -> Features:
    """Features of columns of checked cells (None is missing), in signature order."""
    rows = len(columns[0])
    matrix = np.full((rows, len(columns)), np.nan)
    text: dict[int, Sequence[str | None]] = {}
    exact: dict[int, NDArray[np.int64]] = {}
    for position, (spec, cells) in enumerate(zip(signature.inputs, columns, strict=True)):
        if spec.dtype == "string":
            text[position] = list(cells)
            continue
        matrix[:, position] = [math.nan if cell is None else _number(spec, cell) for cell in cells]
        if spec.dtype == "float32":
            matrix[:, position] = matrix[:, position].astype(np.float32)
        if spec.dtype == "int64" and None not in cells and any(abs(cell) > EXACT_INTEGERS for cell in cells):
            exact[position] = np.array(cells, dtype=np.int64)
    return Features(matrix, text, exact)


def expected_scores(signature: Signature, predictions: Sequence[Any]) -> Matrix:
    """The score matrix that expected answers stand for, float64, shape (rows, signature.width); null is NaN.

    Raises:
        MetaInvalidError: naming the answer at fault as `examples.predictions.<row>`.
    """
    out = np.empty((len(predictions), signature.width))
    for row, answer in enumerate(predictions):
        where = f"examples.predictions.{row}"
        at = 0
        for spec in signature.outputs:
            part = _part(answer, spec, where) if len(signature.outputs) > 1 else answer
            out[row, at : at + spec.columns] = _output_cells(spec, part, where)
            at += spec.columns
    return out


def compare(scores: Matrix, expected: Matrix, runtime: str) -> None:
    """Refuse a model whose scores differ from what its author expects.

    Raises:
        ExampleMismatchError: naming the first row that differs, both answers and the tolerance.
    """
    tolerance = RELATIVE.get(runtime, RELATIVE_ELSEWHERE)
    same = np.isclose(scores, expected, rtol=tolerance, atol=tolerance * 1e-3, equal_nan=True)
    if same.all():
        return
    row, column = (int(index) for index in np.argwhere(~same)[0])
    raise ExampleMismatchError(
        f"example {row} answers {scores[row, column]!r} where {expected[row, column]!r} is expected "
        f"(relative tolerance {tolerance:g}); {int((~same.all(axis=1)).sum())} of {len(same)} examples differ",
        field=f"examples.predictions.{row}",
    )


def _row_cells(signature: Signature, instance: Any, key: Mapping[str, str], where: str) -> list[Any]:
    if isinstance(instance, list):
        if len(instance) != len(signature.inputs):
            raise MetaInvalidError(
                f"{where} has {len(instance)} cells, the signature has {len(signature.inputs)} inputs", field=where
            )
        given = {spec.name: cell for spec, cell in zip(signature.inputs, instance, strict=True)}
    elif isinstance(instance, Mapping):
        given = dict(instance)
    else:
        raise MetaInvalidError(f"{where} must be an object or an array", field=where)
    unknown = sorted(set(given) - set(signature.positions))
    if unknown:
        raise MetaInvalidError(f"{where} names {unknown[0]!r}, which is no input", field=f"{where}.{unknown[0]}")
    return [_cell(spec, given, key, where) for spec in signature.inputs]


def _cell(spec: InputSpec, given: Mapping[str, Any], key: Mapping[str, str], where: str) -> Any:
    at = f"{where}.{spec.name}"
    if spec.name in given:
        cell = given[spec.name]
    elif spec.from_key is not None and spec.from_key in key:
        return key_cell(spec, key[spec.from_key], at)
    elif spec.required:
        raise MetaInvalidError(f"{at} is missing and has no default", field=at)
    else:
        cell = spec.default
    if cell is None:
        if not spec.nullable:
            raise MetaInvalidError(f"{at} is null, and the input is not nullable", field=at)
        return None
    if not default_fits(spec.dtype, cell):
        raise MetaInvalidError(f"{at} must be {spec.dtype}, got {type(cell).__name__}", field=at)
    if spec.categories and cell not in spec.categories:
        raise MetaInvalidError(f"{at} is none of the input's categories", field=at)
    return cell


def key_cell(spec: InputSpec, text: str, at: str) -> Any:
    """The cell of a `from_key` input.

    Raises:
        MetaInvalidError: if the key's text is no value of the input's dtype.
    """
    try:
        return cell_of_text(spec.dtype, text)
    except ValueError as error:
        raise MetaInvalidError(f"{at}: the key's value {text!r} is no {spec.dtype}", field=at) from error


def _number(spec: InputSpec, cell: Any) -> float:
    return float(timestamp_micros(cell) if spec.dtype == "timestamp" else cell)


def _part(answer: Any, spec: OutputSpec, where: str) -> Any:
    if not isinstance(answer, Mapping) or spec.name not in answer:
        raise MetaInvalidError(f"{where} must be an object with the output {spec.name!r}", field=where)
    return answer[spec.name]


def _output_cells(spec: OutputSpec, part: Any, where: str) -> list[float]:
    if spec.kind == "label":
        if part not in spec.classes:
            raise MetaInvalidError(f"{where} is none of the classes {list(spec.classes)[:20]}", field=where)
        return [float(spec.classes.index(part))]
    cells = part if spec.columns > 1 and isinstance(part, list) else [part]
    if len(cells) != spec.columns:
        raise MetaInvalidError(f"{where} needs {spec.columns} numbers for {spec.name!r}", field=where)
    if any(cell is not None and type(cell) not in (int, float) for cell in cells):
        raise MetaInvalidError(f"{where} must hold numbers or null for {spec.name!r}", field=where)
    return [math.nan if cell is None else float(cell) for cell in cells]
