"""What an author may say of a model, read from JSON and held to limits.

Single registration (`x-model-meta`) and bulk Parquet say the same things in the same shape, so both are read here and
refuse the same mistakes in the same words. Pure functions; no I/O.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from registry.errors import MetaInvalidError
from registry.records import ModelMeta
from registry.signature import Label

_FIELDS: Final = ("tags", "metrics", "provenance", "classes", "examples")


@dataclass(frozen=True, slots=True)
class MetaLimits:
    """How much an author may say. Lengths are in characters."""

    entries: int = 64  # of tags, of metrics, of provenance
    name: int = 128
    tag: int = 256
    provenance: int = 2048
    classes: int = 10_000
    label: int = 256
    example_rows: int = 100
    example_depth: int = 8


def parse_meta(text: str | bytes, limits: MetaLimits | None = None) -> ModelMeta:
    """Read the JSON text of an `x-model-meta` header; empty text is an empty meta.

    Raises:
        MetaInvalidError: if it is no JSON, or as `read_meta`.
    """
    try:
        body = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError as error:
        raise MetaInvalidError(f"x-model-meta is not JSON: {error}", field="x-model-meta") from error
    return read_meta(body, limits)


def read_meta(body: Any, limits: MetaLimits | None = None) -> ModelMeta:
    """Read the JSON form `{"tags", "metrics", "provenance", "classes", "examples"}`; all are optional, null is absent.

    Raises:
        MetaInvalidError: naming the field at fault.
    """
    limits = limits or MetaLimits()
    given = _mapping(body, "x-model-meta", len(_FIELDS), limits)
    unknown = sorted(set(given) - set(_FIELDS))
    if unknown:
        raise MetaInvalidError(f"{unknown[0]!r} is unknown; known are {list(_FIELDS)}", field=unknown[0])
    return ModelMeta(
        tags=_texts(given.get("tags"), "tags", limits.tag, limits),
        metrics=_numbers(given.get("metrics"), limits),
        provenance=_texts(given.get("provenance"), "provenance", limits.provenance, limits),
        classes=_classes(given.get("classes"), limits),
        examples=_examples(given.get("examples"), limits),
    )


def meta_body(meta: ModelMeta) -> dict[str, Any]:
    """The JSON form that `read_meta` reads; empty fields are left out."""
    body: dict[str, Any] = {name: getattr(meta, name) for name in _FIELDS if getattr(meta, name)}
    if meta.classes:
        body["classes"] = list(meta.classes)
    return body


def _mapping(value: Any, where: str, most: int, limits: MetaLimits) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise MetaInvalidError(f"{where} must be an object, got {_said(value)}", field=where)
    if len(value) > most:
        raise MetaInvalidError(f"{where} has {len(value)} entries, the limit is {most}", field=where)
    for name in value:
        if type(name) is not str or not 1 <= len(name) <= limits.name or not _clean(name):
            raise MetaInvalidError(f"a name in {where} is not 1 to {limits.name} printable characters", field=where)
    return value


def _texts(value: Any, where: str, longest: int, limits: MetaLimits) -> dict[str, str]:
    given = _mapping(value, where, limits.entries, limits)
    for name, text in given.items():
        at = f"{where}.{name}"
        if type(text) is not str:
            raise MetaInvalidError(f"{at} must be text, got {_said(text)}", field=at)
        if len(text) > longest or not _encodes(text):
            raise MetaInvalidError(f"{at} must be valid text of at most {longest} characters", field=at)
    return dict(given)


def _numbers(value: Any, limits: MetaLimits) -> dict[str, float]:
    given = _mapping(value, "metrics", limits.entries, limits)
    for name, number in given.items():
        if type(number) not in (int, float) or not _is_finite(number):
            at = f"metrics.{name}"
            raise MetaInvalidError(f"{at} must be a finite number, got {_said(number)}", field=at)
    return {name: float(number) for name, number in given.items()}


def _classes(value: Any, limits: MetaLimits) -> tuple[Label, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > limits.classes:
        raise MetaInvalidError(f"classes must be a list of at most {limits.classes} labels", field="classes")
    for label in value:
        if type(label) not in (str, int, bool) or (type(label) is str and len(label) > limits.label):
            raise MetaInvalidError(
                f"a class is a text of at most {limits.label} characters, an integer or a boolean", field="classes"
            )
    if len({(type(label), label) for label in value}) != len(value):
        raise MetaInvalidError("a class is named twice", field="classes")
    return tuple(value)


def _examples(value: Any, limits: MetaLimits) -> dict[str, Any]:
    given = _mapping(value, "examples", 2, limits)
    if not given:
        return {}
    if set(given) != {"instances", "predictions"}:
        raise MetaInvalidError('examples must be {"instances": [...], "predictions": [...]}', field="examples")
    instances, predictions = given["instances"], given["predictions"]
    if not isinstance(instances, list) or not isinstance(predictions, list) or len(instances) != len(predictions):
        raise MetaInvalidError("examples need one prediction an instance", field="examples")
    if not 1 <= len(instances) <= limits.example_rows:
        raise MetaInvalidError(f"examples are 1 to {limits.example_rows} rows, got {len(instances)}", field="examples")
    if _is_deep([instances, predictions], limits.example_depth):
        raise MetaInvalidError("examples are nested too deeply", field="examples")
    return dict(given)


def _is_deep(value: Any, most: int) -> bool:
    if not isinstance(value, list | Mapping):
        return False
    inside = value.values() if isinstance(value, Mapping) else value
    return most == 0 or any(_is_deep(item, most - 1) for item in inside)


def _clean(text: str) -> bool:
    return text.isprintable() and _encodes(text)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond float64
        return False


def _said(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
