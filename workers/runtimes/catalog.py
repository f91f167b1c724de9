"""All runtimes by name, each imported when first asked for: a fleet of one kind loads one library."""

from collections.abc import Callable
from typing import Final

from registry.records import RuntimeName
from workers.errors import ArtifactInvalidError
from workers.runtimes.runtime import Runtime


def _lightgbm() -> Runtime:
    from workers.runtimes.lightgbm import LIGHTGBM  # noqa: PLC0415 - loads the native library

    return LIGHTGBM


def _onnx() -> Runtime:
    from workers.runtimes.onnx import ONNX  # noqa: PLC0415 - loads the native library

    return ONNX


def _sklearn() -> Runtime:
    from workers.runtimes.sklearn import SKLEARN  # noqa: PLC0415 - loads the native library

    return SKLEARN


_RUNTIMES: Final[dict[RuntimeName, Callable[[], Runtime]]] = {
    "lightgbm": _lightgbm,
    "onnx": _onnx,
    "sklearn": _sklearn,
}
RUNTIME_NAMES: Final = tuple(_RUNTIMES)


def runtime(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        ArtifactInvalidError: if there is none.
    """
    for known, find in _RUNTIMES.items():
        if known == name:
            return find()
    raise ArtifactInvalidError(f"no runtime {name!r}; there are {', '.join(RUNTIME_NAMES)}", field="runtime")
