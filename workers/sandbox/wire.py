"""What goes between a worker and the child of a sandbox.

Orders are pickles, which only our own process writes. Answers are bytes that can be nothing but numbers or a refusal:
whoever wrote them has run a stranger's model.
"""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from registry.errors import Problem
from workers.errors import ArtifactInvalidError, PredictionFailedError, SignatureMismatchError, WorkerError
from workers.features import Features, Matrix
from workers.runtimes.runtime import Binding

_LENGTH: Final = Struct("<Q")
_LOADED: Final = b"l"
_SCORES: Final = b"s"
_REFUSAL: Final = b"r"
_KINDS: Final[Mapping[str, type[WorkerError]]] = {
    kind.code: kind for kind in (ArtifactInvalidError, PredictionFailedError, SignatureMismatchError)
}
MOST_DETAIL: Final = 500


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """Load a model as `number`; first forget the models of the numbers in `dropped`."""

    number: int
    runtime: str
    data: bytes
    binding: Binding
    dropped: Sequence[int]


# Have a loaded model answer some rows: its number, the bytes and the shape of `Features.matrix`, its text and exact
# columns. A tuple of plain things, because a pickle of arrays and classes costs more than many a model.
PredictOrder = tuple[int, bytes, tuple[int, ...], Mapping[int, Sequence[str | None]], Mapping[int, NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal as it came out of a sandbox.

    Attributes:
        problem: what callers hear.
        tight: whether the child's memory was nearly used up, so that the model may not be to blame.
    """

    problem: Problem
    tight: bool


def written(order: LoadOrder | Sequence[PredictOrder]) -> bytes:
    """An order as bytes."""
    return pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL)


def predict_order(number: int, features: Features) -> PredictOrder:
    """The order for some rows."""
    matrix = features.matrix
    return number, matrix.tobytes(), matrix.shape, dict(features.text), dict(features.exact)


def features_of(order: PredictOrder) -> Features:
    """The rows of an order; arrays that may be written to, as everywhere."""
    _, data, shape, text, exact = order
    return Features(np.frombuffer(bytearray(data), dtype=np.float64).reshape(shape), text, exact)


def read_order(data: bytes) -> Any:
    """The order that `written` wrote."""
    return pickle.loads(data)  # noqa: S301 - written by our own parent process


def loaded() -> bytes:
    """The answer that a model is loaded."""
    return _LOADED


def scores(matrix: Matrix) -> bytes:
    """The answer that has scores."""
    return _SCORES + np.ascontiguousarray(matrix, dtype=np.float64).tobytes()


def refusal(error: Exception, *, tight: bool) -> bytes:
    """The answer that there is none."""
    code = error.code if isinstance(error, Problem) else ""
    said = error.detail if isinstance(error, Problem) else f"the model broke: {type(error).__name__}: {error}"
    return _REFUSAL + orjson.dumps([code, said.encode(errors="replace").decode()[:MOST_DETAIL], tight])


def joined(answers: Sequence[bytes]) -> bytes:
    """Many answers as one message."""
    return b"".join([part for answer in answers for part in (_LENGTH.pack(len(answer)), answer)])


def parted(message: bytes) -> Iterator[bytes]:
    """The answers of a message; what is cut off is the last one."""
    at = 0
    while at < len(message):
        [length] = _LENGTH.unpack(message[at : at + _LENGTH.size].ljust(_LENGTH.size, b"\0"))
        at += _LENGTH.size
        yield message[at : at + length]
        at += length


def is_loaded(answer: bytes) -> "Refused | None":
    """None if a model is loaded, else why not."""
    return None if answer == _LOADED else _refused(answer)


def read_scores(answer: bytes, rows: int, width: int) -> "Matrix | Refused":
    """Scores, float64, shape (rows, width), or why there are none."""
    if answer[:1] != _SCORES:
        return _refused(answer)
    if len(answer) != 1 + 8 * rows * width:
        return Refused(PredictionFailedError(f"the model answers no {rows} rows of {width} numbers"), tight=False)
    return np.frombuffer(answer, dtype=np.float64, offset=1).reshape(rows, width)


def _refused(answer: bytes) -> Refused:
    try:
        code, detail, tight = orjson.loads(answer[1:])
        kind = _KINDS.get(code, PredictionFailedError)
        return Refused(kind(str(detail)[:MOST_DETAIL]), tight=bool(tight))
    except (ValueError, TypeError):
        return Refused(PredictionFailedError("the model answers what cannot be read"), tight=False)
