"""From a fitted model to what a server takes: bytes in a safe format, the name of their runtime, and their meta.

A LightGBM model becomes its text form, a scikit-learn estimator its skops form, an ONNX model its protobuf form; bytes
and files in one of these forms are taken as they are. No modelling library is imported to find out which one made
the model, and a pickle is refused here already: the server would refuse it as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from manymodels.errors import LibraryMissingError, UnsupportedModelError
from manymodels.foreign import comes_from
from manymodels.provenance import gathered

RUNTIMES: Final = ("lightgbm", "onnx", "sklearn")

_LIBRARIES: Final = {
    "lightgbm": ("lightgbm", "numpy"),
    "sklearn": ("scikit-learn", "skops", "numpy"),
    "onnx": ("onnx", "skl2onnx", "onnxmltools"),
}


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model ready to be registered.

    Attributes:
        artifact: its bytes.
        runtime: which runtime parses them.
        classes: labels of the model's own output columns, where the bytes lack them.
        libraries: distribution names of what made it; empty if it came as bytes.
        in_memory: whether it was a fitted object, made in this process as far as we can tell.
    """

    artifact: bytes
    runtime: str
    classes: tuple[Any, ...] = ()
    libraries: tuple[str, ...] = field(default=())
    in_memory: bool = True


def fitted(model: Any, runtime: str | None = None) -> Fitted:
    """What to send of a LightGBM Booster or estimator, scikit-learn estimator, ONNX ModelProto, bytes or path.

    Args:
        model: the fitted model.
        runtime: of bytes or a file, where their beginning does not tell.

    Raises:
        UnsupportedModelError: if no runtime serves it, saying what would be.
        LibraryMissingError: if writing it down needs a library that is not installed.
    """
    if isinstance(model, bytes | bytearray | memoryview):
        return _from_bytes(bytes(model), runtime)
    if isinstance(model, Path):
        return _from_bytes(model.read_bytes(), runtime)
    if comes_from(model, "lightgbm", "Booster"):
        return _from_booster(model, ())
    if comes_from(model, "lightgbm", "LGBMModel"):
        return _from_booster(_booster(model), labels(getattr(model, "classes_", ())))
    if comes_from(model, "onnx", "ModelProto"):
        return Fitted(model.SerializeToString(), "onnx", libraries=_LIBRARIES["onnx"])
    if comes_from(model, "sklearn", "BaseEstimator"):
        return _from_estimator(model)
    raise UnsupportedModelError(
        f"a {type(model).__module__}.{type(model).__qualname__} cannot be served: give a fitted LightGBM or "
        "scikit-learn model, an ONNX ModelProto, or the bytes or path of a LightGBM text, ONNX or skops file"
    )


def meta(
    model: Fitted,
    *,
    tags: Mapping[str, object] | None = None,
    metrics: Mapping[str, float] | None = None,
    provenance: Mapping[str, object] | None = None,
    classes: Sequence[Any] = (),
    examples: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """The meta that goes with an artifact; empty entries are left out.

    Args:
        model: what is sent.
        tags: text to text, filterable in listings.
        metrics: text to number.
        provenance: `trained_at`, `trained_through`, `data`, `run`, `commit`, ...; wins over what is found out here.
        classes: labels of the model's outputs in its own order, instead of those found.
        examples: `{"instances": [...], "predictions": [...]}`, re-scored by the server before it takes the model.
        folder: where the training code lies, for its git commit; the current folder by default.
        now: the time of training of a model that is in memory; the present by default.
    """
    trained_at = (now or datetime.now(UTC)) if model.in_memory else None
    entries = {
        "tags": {name: str(value) for name, value in (tags or {}).items()},
        "metrics": {name: float(value) for name, value in (metrics or {}).items()},
        "provenance": gathered(
            provenance or {}, libraries=model.libraries, folder=folder or Path.cwd(), trained_at=trained_at
        ),
        "classes": list(labels(classes) if len(classes) else model.classes),
        "examples": dict(examples or {}),
    }
    return {name: value for name, value in entries.items() if value}


def labels(classes: Any) -> tuple[Any, ...]:
    """Class labels as plain Python values; a class that is a whole float, as pandas makes them, becomes an integer."""
    plain = classes.tolist() if hasattr(classes, "tolist") else list(classes)
    return tuple(int(label) if isinstance(label, float) and label.is_integer() else label for label in plain)


def _booster(model: Any) -> Any:
    from sklearn.exceptions import NotFittedError  # noqa: PLC0415 - LightGBM's own estimators need scikit-learn

    try:
        return model.booster_
    except NotFittedError as error:
        raise UnsupportedModelError(f"this {type(model).__name__} is not fitted: call fit() first") from error


def _from_booster(booster: Any, classes: tuple[Any, ...]) -> Fitted:
    # LightGBM writes the best iteration only, if early stopping found one: what Booster.predict uses as well.
    return Fitted(booster.model_to_string().encode(), "lightgbm", classes, _LIBRARIES["lightgbm"])


def _from_estimator(model: Any) -> Fitted:
    try:
        from skops.io import dumps  # noqa: PLC0415 - an optional library, imported when first needed
    except ImportError as error:
        raise LibraryMissingError("scikit-learn models are sent in skops form: pip install skops") from error
    return Fitted(dumps(model), "sklearn", libraries=_LIBRARIES["sklearn"])


def _from_bytes(data: bytes, runtime: str | None) -> Fitted:
    if runtime is not None and runtime not in RUNTIMES:
        raise UnsupportedModelError(f"the runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    return Fitted(data, runtime or recognised(data), in_memory=False)


def recognised(data: bytes) -> str:
    """The runtime that these bytes are written for, judged by how they begin.

    Raises:
        UnsupportedModelError: if they begin like none of the formats.
    """
    if data.startswith(b"tree\n"):
        return "lightgbm"
    if data.startswith(b"PK\x03\x04"):
        return "sklearn"
    if data[:1] == b"\x08" and data[1:2] < b"\x20":  # field 1 of an ONNX ModelProto, its small ir_version
        return "onnx"
    if data[:1] == b"\x80":
        raise UnsupportedModelError(
            "these bytes are a pickle, which can run any code when it is read: save the model as LightGBM text "
            "(Booster.save_model), ONNX or skops (skops.io.dump) instead"
        )
    raise UnsupportedModelError(
        f"these bytes begin like neither LightGBM text nor ONNX nor skops; name their runtime ({', '.join(RUNTIMES)}) "
        "if they are one of them"
    )
