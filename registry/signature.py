"""Signatures: the named inputs and outputs that every model of a group shares.

The signature is what makes a fleet one model to its callers: requests are checked against it once, and each model
binds a subset of its inputs by name. Immutable values with a canonical JSON form; no I/O.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import isfinite
from typing import Any, Final, Literal, get_args

from registry.errors import SignatureInvalidError

Dtype = Literal["float64", "float32", "int64", "bool", "string", "timestamp"]
OutputKind = Literal["value", "label", "probabilities"]
Label = str | int | bool

MAX_INPUTS: Final = 4096
MAX_WIDTH: Final = 10_000
RESERVED_OUTPUTS: Final = frozenset({"fallback_level", "error_code", "error_detail"})  # columns of an Arrow answer

FLOAT32_MAX: Final = 3.4028234663852886e38
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}")
_INTEGER = re.compile(r"-?[0-9]{1,40}", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One named input.

    Attributes:
        name: the feature's name, as models know it.
        dtype: what a cell must be; `timestamp` is RFC 3339 text, handed to models as microseconds since 1970 UTC.
        nullable: whether null (and NaN in Arrow) is taken as a missing value.
        required: whether a row may leave it out; false exactly when there is a default.
        default: the value of an absent cell.
        categories: the values a string input may take, or empty for any.
        from_key: the key field that feeds this input, so that requests need not repeat it.
    """

    name: str
    dtype: Dtype = "float64"
    nullable: bool = False
    required: bool = True
    default: Any = None
    categories: tuple[str, ...] = ()
    from_key: str | None = None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One named output: a `value` (of `width` numbers), a class `label`, or `probabilities` over `classes`."""

    name: str
    kind: OutputKind = "value"
    classes: tuple[Label, ...] = ()
    width: int = 1

    @property
    def columns(self) -> int:
        """How many float64 columns of the score matrix it takes (a label is one: the class's index)."""
        return len(self.classes) if self.kind == "probabilities" else self.width


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a group, in order.

    Raises:
        SignatureInvalidError: naming the field at fault.
    """

    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]

    def __post_init__(self) -> None:
        _check_names("inputs", [spec.name for spec in self.inputs], MAX_INPUTS)
        _check_names("outputs", [spec.name for spec in self.outputs], 64)

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Input name to position."""
        return {spec.name: position for position, spec in enumerate(self.inputs)}

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Inputs, score columns and classes."""
        return len(self.inputs), self.width, len(self.classes)

    @cached_property
    def width(self) -> int:
        """Columns of the score matrix: all outputs side by side."""
        return sum(spec.columns for spec in self.outputs)

    @cached_property
    def classes(self) -> tuple[Label, ...]:
        """The group's classes, empty where nothing is classified."""
        return next((spec.classes for spec in self.outputs if spec.classes), ())

    def to_json(self) -> dict[str, Any]:
        """Canonical JSON form; defaults are left out."""
        return {
            "inputs": [_input_json(spec) for spec in self.inputs],
            "outputs": [_output_json(spec) for spec in self.outputs],
        }

    @classmethod
    def from_json(cls, body: Any, key_fields: Sequence[str] = ()) -> "Signature":
        """Read the JSON form, checking every rule; `from_key` must name one of `key_fields`.

        Raises:
            SignatureInvalidError: naming the field at fault.
        """
        given = _mapping(body, "signature", {"inputs", "outputs"})
        inputs = tuple(
            _read_input(item, f"signature.inputs.{i}", key_fields)
            for i, item in enumerate(_sequence(given.get("inputs"), "signature.inputs"))
        )
        outputs = tuple(
            _read_output(item, f"signature.outputs.{i}")
            for i, item in enumerate(_sequence(given.get("outputs"), "signature.outputs"))
        )
        classes = {spec.classes for spec in outputs if spec.classes}
        if len(classes) > 1:
            raise SignatureInvalidError("all outputs of a group share one list of classes", field="outputs")
        return cls(inputs, outputs)


def timestamp_micros(text: str) -> int:
    """Microseconds since 1970-01-01 UTC of an RFC 3339 text; a text without an offset is UTC.

    Raises:
        ValueError: if the text is no timestamp.
    """
    moment = datetime.fromisoformat(text)
    epoch = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=epoch.tzinfo)
    span = moment - epoch
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds


def default_fits(dtype: Dtype, value: object) -> bool:
    """Whether a JSON value is a cell of this dtype."""
    match dtype:
        case "float64":
            return type(value) in (int, float)
        case "float32":
            return isinstance(value, int | float) and type(value) is not bool and abs(value) <= FLOAT32_MAX
        case "int64":
            return type(value) is int and -(2**63) <= value < 2**63
        case "bool":
            return type(value) is bool
        case "string":
            return type(value) is str
        case "timestamp":
            return type(value) is str and _is_timestamp(value)


def cell_of_text(dtype: Dtype, text: str) -> Any:
    """The cell that a key's text stands for where it feeds an input; a timestamp stays text.

    Raises:
        ValueError: if it stands for none. Numbers are plain ASCII decimals, so that no two spellings slip through.
    """
    cell: Any = text
    if dtype == "bool":
        cell = {"true": True, "false": False, "1": True, "0": False}.get(text)
    elif dtype == "int64":
        cell = int(text) if _INTEGER.fullmatch(text) else None
    elif dtype in ("float64", "float32"):
        cell = float(text) if _DECIMAL.fullmatch(text) else None
    if not default_fits(dtype, cell) or (type(cell) is float and not isfinite(cell)):
        raise ValueError(f"{text[:40]!r} is no {dtype}")
    return cell


def _is_timestamp(text: str) -> bool:
    try:
        timestamp_micros(text)
    except ValueError:
        return False
    return True


def _read_input(item: Any, where: str, key_fields: Sequence[str]) -> InputSpec:
    given = _mapping(item, where, {"name", "dtype", "nullable", "default", "categories", "from_key"})
    dtype = given.get("dtype", "float64")
    if dtype not in get_args(Dtype):
        raise SignatureInvalidError(f"dtype must be one of {list(get_args(Dtype))}, got {dtype!r}", field=where)
    nullable = given.get("nullable", False)
    if type(nullable) is not bool:
        raise SignatureInvalidError("nullable must be true or false", field=where)
    default = given.get("default")
    if default is not None and not default_fits(dtype, default):
        raise SignatureInvalidError(f"the default {default!r} is no {dtype}", field=where)
    if "default" in given and default is None and not nullable:
        raise SignatureInvalidError("a null default needs nullable: true", field=where)
    categories = _strings(given.get("categories", []), f"{where}.categories")
    if categories and dtype != "string":
        raise SignatureInvalidError("only string inputs have categories", field=where)
    if categories and default is not None and default not in categories:
        raise SignatureInvalidError(f"the default {default!r} is none of the categories", field=where)
    from_key = given.get("from_key")
    if from_key is not None and from_key not in key_fields:
        raise SignatureInvalidError(f"from_key {from_key!r} is no key field {list(key_fields)}", field=where)
    return InputSpec(
        name=_name(given, where),
        dtype=dtype,
        nullable=nullable,
        required="default" not in given,
        default=default,
        categories=categories,
        from_key=from_key,
    )


def _read_output(item: Any, where: str) -> OutputSpec:
    given = _mapping(item, where, {"name", "kind", "classes", "width"})
    kind = given.get("kind", "value")
    if kind not in get_args(OutputKind):
        raise SignatureInvalidError(f"kind must be one of {list(get_args(OutputKind))}", field=where)
    classes = tuple(_sequence(given.get("classes", []), f"{where}.classes"))
    if any(type(label) not in (str, int, bool) for label in classes) or len(set(classes)) != len(classes):
        raise SignatureInvalidError("classes are distinct texts, integers or booleans", field=where)
    if (kind != "value") != (len(classes) > 1):
        raise SignatureInvalidError("label and probabilities need two classes or more, value none", field=where)
    width = given.get("width", 1)
    if type(width) is not int or not 1 <= width <= MAX_WIDTH or (kind != "value" and width != 1):
        raise SignatureInvalidError(f"width is 1 to {MAX_WIDTH}, and only of a value", field=where)
    return OutputSpec(_name(given, where), kind, classes, width)


def _input_json(spec: InputSpec) -> dict[str, Any]:
    out: dict[str, Any] = {"name": spec.name, "dtype": spec.dtype}
    if spec.nullable:
        out["nullable"] = True
    if not spec.required:
        out["default"] = spec.default
    if spec.categories:
        out["categories"] = list(spec.categories)
    if spec.from_key:
        out["from_key"] = spec.from_key
    return out


def _output_json(spec: OutputSpec) -> dict[str, Any]:
    out: dict[str, Any] = {"name": spec.name, "kind": spec.kind}
    if spec.classes:
        out["classes"] = list(spec.classes)
    if spec.width != 1:
        out["width"] = spec.width
    return out


def _name(given: Mapping[str, Any], where: str) -> str:
    name = given.get("name")
    if type(name) is not str or not _NAME.fullmatch(name):
        raise SignatureInvalidError("a name is 1 to 128 printable characters", field=where)
    return name


def _check_names(what: str, names: Sequence[str], most: int) -> None:
    if not 1 <= len(names) <= most:
        raise SignatureInvalidError(f"a signature has 1 to {most} {what}, got {len(names)}", field=what)
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) != len(names) else set()
    if twice:
        raise SignatureInvalidError(f"{what} named twice: {sorted(twice)}", field=what)


def _mapping(value: Any, where: str, allowed: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or set(value) - allowed:
        raise SignatureInvalidError(f"must be an object of {sorted(allowed)}", field=where)
    return value


def _sequence(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise SignatureInvalidError("must be a list", field=where)
    return value


def _strings(value: Any, where: str) -> tuple[str, ...]:
    items = _sequence(value, where)
    if any(type(item) is not str for item in items) or len(set(items)) != len(items):
        raise SignatureInvalidError("must be distinct texts", field=where)
    return tuple(items)
