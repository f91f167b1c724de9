"""The columns of a scikit-learn pipeline, followed from the signature's inputs to what its last estimator reads.

A column is known by how it is computed: from one input by a chain of operations, or as the indicator of one category
of an input. Transformers are taken apart here, each as its `transform` computes, including what its input validation
refuses; one that mixes columns, or that computes in float32, is refused.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from registry.signature import InputSpec
from workers.packing.layout import NotPackableError
from workers.packing.linear import (
    ADD,
    AT_LEAST,
    AT_MOST,
    DIVIDE,
    IMPUTE,
    MULTIPLY,
    NO_INFINITY,
    SUBTRACT,
    Operation,
)

_EXACT: Final = 1 << 53  # up to here whole numbers are distinct as float64
_ARITHMETIC: Final[Mapping[int, Callable[[float, float], float]]] = {
    SUBTRACT: operator.sub,
    DIVIDE: operator.truediv,
    MULTIPLY: operator.mul,
    ADD: operator.add,
    AT_LEAST: max,
    AT_MOST: min,
}


@dataclass(frozen=True, slots=True)
class Number:
    """A number computed from one input. `dtype` is what numpy holds it in: `float64`, `float32`, `int64` or `bool`."""

    position: int
    dtype: str
    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A text input; what is missing is read as `filled` where that is a text."""

    position: int
    filled: str | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A column whose categories are looked up; NaN among them stands for missing values."""

    source: Number | Text
    categories: tuple[Any, ...]
    refuses: bool


@dataclass(frozen=True, slots=True)
class Indicator:
    """Whether a column holds one category: `on` if it does, else `off`."""

    encoded: Encoded
    category: int
    off: float = 0.0
    on: float = 1.0


Column = Number | Text | Indicator


class Columns(NamedTuple):
    """Columns, and those that were only checked or encoded on the way."""

    kept: tuple[Column, ...]
    seen: tuple[Number | Encoded, ...] = ()


def columns_of(inputs: Sequence[int], specs: Sequence[InputSpec], *, framed: bool) -> Columns:
    """The columns as an estimator is fed them."""
    narrow = all(spec.dtype == "float32" for spec in specs)
    kept: list[Column] = []
    for position, spec in zip(inputs, specs, strict=True):
        if spec.dtype == "string":
            kept.append(Text(position))
        elif framed:
            kept.append(Number(position, "float64" if spec.dtype == "timestamp" else spec.dtype))
        else:
            kept.append(Number(position, "float32" if narrow else "float64"))
    return Columns(tuple(kept))


def transformed(step: Any, columns: Columns) -> Columns:
    """What a transformer makes of columns.

    Raises:
        NotPackableError: if it is none that is understood.
    """
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return columns
    name = type(step).__name__
    if name not in _STEPS:
        raise NotPackableError("estimator", f"it prepares its inputs with a {name}")
    return _STEPS[name](step, columns)


def _pipeline(step: Any, columns: Columns) -> Columns:
    for _, part in step.steps:
        columns = transformed(part, columns)
    return columns


def _column_transformer(step: Any, columns: Columns) -> Columns:
    if step.transformer_weights is not None:
        raise NotPackableError("estimator", "its ColumnTransformer weighs its columns")
    taken = step._transformer_to_input_indices  # noqa: SLF001 - the columns by number, however they were named
    kept: tuple[Column, ...] = ()
    seen = columns.seen
    for name, part, chosen in step.transformers_:
        if isinstance(chosen, (str, int)):
            raise NotPackableError("estimator", "its ColumnTransformer hands on a single column as a vector")
        if (isinstance(part, str) and part == "drop") or not len(taken[name]):
            continue
        made = transformed(part, Columns(tuple(columns.kept[index] for index in taken[name])))
        kept += made.kept
        seen += made.seen
    return Columns(kept, seen)


def _function(step: Any, columns: Columns) -> Columns:
    if step.func is not None or step.validate:
        raise NotPackableError("estimator", "it calls a function")
    return columns


def _standard_scaler(step: Any, columns: Columns) -> Columns:
    operations = [(SUBTRACT, step.mean_)] if step.with_mean else []
    return _computed(columns, [*operations, *([(DIVIDE, step.scale_)] if step.with_std else [])])


def _min_max_scaler(step: Any, columns: Columns) -> Columns:
    low, high = step.feature_range
    clip = [(AT_LEAST, float(low)), (AT_MOST, float(high))] if step.clip else []
    return _computed(columns, [(MULTIPLY, step.scale_), (ADD, step.min_), *clip])


def _max_abs_scaler(step: Any, columns: Columns) -> Columns:
    clip = [(AT_LEAST, -1.0), (AT_MOST, 1.0)] if getattr(step, "clip", False) else []
    return _computed(columns, [(DIVIDE, step.scale_), *clip])


def _robust_scaler(step: Any, columns: Columns) -> Columns:
    operations = [(SUBTRACT, step.center_)] if step.with_centering else []
    return _computed(columns, [*operations, *([(DIVIDE, step.scale_)] if step.with_scaling else [])])


def _computed(columns: Columns, operations: Sequence[tuple[int, Any]]) -> Columns:
    """Columns after operations, whose operands are one number or one for each column; all but NaN must be finite."""
    _refuse_float32(columns)
    kept: list[Column] = []
    for index, column in enumerate(columns.kept):
        own = [(code, float(operand if np.ndim(operand) == 0 else operand[index])) for code, operand in operations]
        if isinstance(column, Number):
            all_own = (*column.operations, (NO_INFINITY, 0.0), *own)
            kept.append(replace(column, dtype="float64", operations=all_own))
        elif isinstance(column, Indicator):
            kept.append(replace(column, off=_value(own, column.off), on=_value(own, column.on)))
        else:
            raise NotPackableError("shape", "it computes with a text")
    return Columns(tuple(kept), columns.seen)


def _value(operations: Sequence[Operation], value: float) -> float:
    """A known value after operations."""
    for code, operand in operations:
        value = _ARITHMETIC[code](value, operand)
    return value


def _imputer(step: Any, columns: Columns) -> Columns:
    """Missing values filled; columns in which all were missing dropped; indicators behind them."""
    if not (isinstance(step.missing_values, float) and np.isnan(step.missing_values)):
        raise NotPackableError("estimator", "what its imputer takes for missing is not NaN")
    _refuse_float32(columns)
    fills = step.statistics_.tolist()
    texts = [isinstance(column, Text) for column in columns.kept]
    if any(texts) != all(texts) or (not any(texts) and step._fit_dtype.kind == "O"):  # noqa: SLF001 - its own question
        raise NotPackableError("shape", "its imputer holds numbers as objects")
    kept: list[Column] = []
    seen = list(columns.seen)
    for column, fill in zip(columns.kept, fills, strict=True):
        checked = _checked(column)
        if fill is None or fill != fill:  # noqa: PLR0124 - NaN, of an object too
            if not isinstance(checked, Number):
                raise NotPackableError("shape", "its imputer drops a text")
            seen.append(checked)
        else:
            kept.append(_filled(checked, np.array(fill, dtype=step._fill_dtype).item()))  # noqa: SLF001 - its own cast
    if step.add_indicator:
        kept += [_missing(_checked(columns.kept[index])) for index in step.indicator_.features_.tolist()]
    return Columns(tuple(kept), tuple(seen))


def _filled(column: Column, fill: Any) -> Column:
    if isinstance(column, Text):
        if not isinstance(fill, str):
            raise NotPackableError("shape", "its imputer fills a text with a number")
        return column if column.filled is not None else replace(column, filled=fill)
    if isinstance(column, Number):
        return replace(column, operations=(*column.operations, (IMPUTE, float(fill))))
    return column


def _missing(column: Column) -> Column:
    """Whether a value is missing."""
    if isinstance(column, Indicator) or (isinstance(column, Text) and column.filled is not None):
        raise NotPackableError("shape", "its imputer looks for missing values where there are none")
    return Indicator(Encoded(column, (np.nan,), refuses=False), 0)


def _checked(column: Column) -> Column:
    """A column whose values passed an input validation that refuses what is infinite."""
    if isinstance(column, Number):
        return replace(column, operations=(*column.operations, (NO_INFINITY, 0.0)))
    return column


def _one_hot_encoder(step: Any, columns: Columns) -> Columns:
    if np.dtype(step.dtype) != np.float64:
        raise NotPackableError("precision", "its encoder does not answer float64")
    if getattr(step, "_infrequent_enabled", False) and any(kind is not None for kind in step.infrequent_categories_):
        raise NotPackableError("estimator", "its encoder joins infrequent categories")
    dropped = step.drop_idx_ if step.drop_idx_ is not None else [None] * len(step.categories_)
    kept: list[Column] = []
    seen = list(columns.seen)
    for column, categories, drop in zip(columns.kept, step.categories_, dropped, strict=True):
        encoded = _encoded(column, categories.tolist(), refuses=step.handle_unknown == "error")
        seen.append(encoded)
        kept += [Indicator(encoded, number) for number in range(len(categories)) if number != drop]
    return Columns(tuple(kept), tuple(seen))


def _encoded(column: Column, categories: Sequence[Any], *, refuses: bool) -> Encoded:
    if isinstance(column, Text):
        return Encoded(column, tuple(categories), refuses)
    if isinstance(column, Indicator):
        raise NotPackableError("estimator", "its encoder reads what another encoded")
    if column.dtype == "float32":
        raise NotPackableError("precision", "its encoder compares float32")
    numbers = [np.nan if value is None else value for value in categories]
    if not all(isinstance(value, (bool, int, float)) for value in numbers):
        raise NotPackableError("shape", "it knows categories of text in an input of numbers")
    if any(isinstance(value, int) and abs(value) >= _EXACT for value in numbers):
        raise NotPackableError("shape", "it knows categories that a float64 cannot tell apart")
    checked = _checked(column)
    assert isinstance(checked, Number)
    return Encoded(checked, tuple(float(value) for value in numbers), refuses)


def _refuse_float32(columns: Columns) -> None:
    """Refuse columns that numpy holds in one float32 array."""
    dtypes = {column.dtype if isinstance(column, Number) else "float64" for column in columns.kept}
    if "float32" in dtypes and dtypes <= {"float32", "bool"}:
        raise NotPackableError("precision", "it computes in float32")


_STEPS: Final[Mapping[str, Callable[[Any, Columns], Columns]]] = {
    "Pipeline": _pipeline,
    "ColumnTransformer": _column_transformer,
    "FunctionTransformer": _function,
    "StandardScaler": _standard_scaler,
    "MinMaxScaler": _min_max_scaler,
    "MaxAbsScaler": _max_abs_scaler,
    "RobustScaler": _robust_scaler,
    "SimpleImputer": _imputer,
    "OneHotEncoder": _one_hot_encoder,
}
