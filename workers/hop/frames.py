"""The bytes between a gateway and a worker: calls and answers as frames, several of them in one HTTP body.

A frame is two lengths (uint32, little-endian), a short JSON array that says what there is, and numbers as they lie in
memory (float64, int32, int64, little-endian). So a row costs no parsing, and what is read can be checked by its length.
Both ends are ours and the path names the version; still, nothing is believed: what does not fit is `HopInvalidError`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from struct import Struct
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from registry.errors import Problem
from workers.client import ModelUse, ScoreAnswer, ScoreCall
from workers.errors import HopInvalidError
from workers.features import Features
from workers.hop.problems import problem_named

MEDIA_TYPE: Final = "application/vnd.manymodels.hop"

_LENGTHS: Final = Struct("<II")
_COLD, _SCORED, _REFUSED = 0, 1, 2
COLD: Final = _LENGTHS.pack(3, 0) + b"[0]"
_TEXT: Final = frozenset({str})
_NOTHING: Final[frozenset[bytes]] = frozenset()
_NUMBERS: Final = np.dtype("<f8")
MOST_USES: Final = 32_768  # of heads of answers that are remembered


Frame = tuple[bytes, memoryview]  # head and numbers


class Cold(NamedTuple):
    """The answer of a worker that would have to wait: nothing was scored."""


Answer = ScoreAnswer | Problem | Cold


def framed(head: object, *parts: bytes) -> bytes:
    """One frame of a head and the numbers behind it."""
    spelled = orjson.dumps(head)
    return _LENGTHS.pack(len(spelled), sum(map(len, parts))) + spelled + b"".join(parts)


def frames(body: bytes) -> Iterator[Frame]:
    """The frames of a body. Raises HopInvalidError if it does not end where a frame does."""
    view, at, size = memoryview(body), 0, len(body)
    while at < size:
        start = at + _LENGTHS.size
        if start > size:
            raise HopInvalidError("a frame is cut short")
        head, rest = _LENGTHS.unpack_from(body, at)
        numbers = start + head
        at = numbers + rest
        if at > size:
            raise HopInvalidError("a frame is cut short")
        yield body[start:numbers], view[numbers:at]


def call_frame(call: ScoreCall, disabled: Iterable[bytes] = ()) -> bytes:
    """A call as a frame; of the identities on hold only `disabled` go along."""
    features = call.features
    cells, text, exact = features.cells, features.text, features.exact
    plain = cells is not None and not text and not exact
    rows = len(features)
    numbers = _row(len(cells)).pack(*cells) if plain and cells is not None else features.matrix.tobytes()
    width = len(numbers) // (8 * rows)
    head = [
        call.group,
        call.release,
        call.max_level,
        call.keys,
        rows,
        width,
        plain,
        call.key_rows is not None,
        [[at, column] for at, column in text.items()] if text else 0,
        list(exact) if exact else 0,
        [identity.hex() for identity in disabled] or 0,
    ]
    parts = [numbers]
    if call.key_rows is not None:
        parts.append(np.ascontiguousarray(call.key_rows, dtype=np.int32).tobytes())
    parts += [column.tobytes() for column in exact.values()]
    return framed(head, *parts)


def read_call(head: bytes, numbers: memoryview) -> ScoreCall:
    """The call of a frame; every length and every row's key is checked.

    Raises:
        HopInvalidError: if it is none.
    """
    try:
        group, release, level, keys, rows, width, plain, many, text, exact, disabled = orjson.loads(head)
        if not many and len(keys) != 1:
            raise HopInvalidError("a call that does not say which rows have which key has one key")
        return ScoreCall(
            group=_is(str, group),
            release=_is(int, release),
            keys=_keys(keys),
            key_rows=_key_rows(numbers, rows, width, len(keys)) if many else None,
            features=_features(numbers, rows, width, plain, many, text or (), exact or ()),
            max_level=_is(int, level),
            disabled=frozenset(map(bytes.fromhex, disabled)) if disabled else _NOTHING,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise HopInvalidError(f"no call: {error}") from error


def _features(
    numbers: memoryview, rows: int, width: int, plain: bool, many: bool, text: Sequence[Any], exact: Sequence[int]
) -> Features:
    cells = _is(int, rows) * _is(int, width)
    if rows < 1 or width < 1 or len(numbers) != 8 * cells + 4 * rows * bool(many) + 8 * rows * len(exact):
        raise HopInvalidError(f"{len(numbers)} bytes are not {rows} rows of {width} inputs")
    if plain and rows == 1:
        return Features(None, cells=_row(width).unpack(numbers))
    matrix = np.frombuffer(numbers, dtype="<f8", count=cells).reshape(rows, width).copy()
    start = 8 * cells + 4 * rows * bool(many)
    columns = {
        _at(position, width): np.frombuffer(numbers, dtype="<i8", count=rows, offset=start + 8 * rows * nth).copy()
        for nth, position in enumerate(exact)
    }
    return Features(matrix, {_at(position, width): _column(column, rows) for position, column in text}, columns)


@lru_cache(maxsize=256)
def _row(width: int) -> Struct:
    return Struct(f"<{width}d")


def _keys(keys: Iterable[Iterable[Any]]) -> list[tuple[str, ...]]:
    found = [tuple(key) for key in keys]
    if not set(map(type, found[0] if len(found) == 1 else chain.from_iterable(found))) <= _TEXT:
        raise HopInvalidError("a key's values are text")
    return found


def _key_rows(numbers: memoryview, rows: int, width: int, keys: int) -> Any:
    found = np.frombuffer(numbers, dtype="<i4", count=rows, offset=8 * rows * width).copy()
    if len(found) and (found.min() < 0 or found.max() >= keys):
        raise HopInvalidError("a row names a key that the call does not have")
    return found


def _column(column: Any, rows: int) -> list[str | None]:
    if len(column) != rows or not all(value is None or type(value) is str for value in column):
        raise HopInvalidError("a column of text is not one text a row")
    return list(column)


def _at(position: Any, width: int) -> int:
    if not 0 <= _is(int, position) < width:
        raise HopInvalidError(f"there is no input {position}")
    return int(position)


def _is(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise HopInvalidError(f"{value!r:.80} is no {kind.__name__}")
    return value


def answer_frame(answer: ScoreAnswer | Problem, release: int) -> bytes:
    """An answer, or why there is none, as a frame."""
    if isinstance(answer, Problem):
        return framed([_REFUSED, *_told(answer)])
    uses = [
        None if use is None else (use.key, use.version, use.fallback_level, use.trained_through)
        for use in answer.models
    ]
    problems = [[at, *_told(problem)] for at, problem in answer.problems.items()]
    return framed([_SCORED, release, *answer.scores.shape, uses, problems], answer.scores.tobytes())


def _told(problem: Problem) -> tuple[str, str, str | None]:
    return problem.code, problem.detail, problem.field


class AnswerFrames:
    """Reads answers. Remembers the models that heads name: the answers of one model differ in their scores alone."""

    def __init__(self) -> None:
        self._uses: dict[bytes, tuple[ModelUse | None, ...]] = {}

    def read(self, head: bytes, numbers: memoryview) -> Answer:
        """The answer of a frame. Raises HopInvalidError if it is none."""
        known = self._uses.get(head)
        try:
            if known is not None:  # one key, and nothing wrong
                return ScoreAnswer(np.frombuffer(numbers, _NUMBERS).reshape(1, -1), known, {})
            kind, *said = orjson.loads(head)
            if kind == _COLD:
                return Cold()
            if kind == _REFUSED:
                return problem_named(*said)
            return self._scored(head, said, numbers)
        except (ValueError, TypeError) as error:
            raise HopInvalidError(f"no answer: {error}") from error

    def _scored(self, head: bytes, said: Sequence[Any], numbers: memoryview) -> ScoreAnswer:
        release, rows, width, told, refused = said
        uses = tuple(None if use is None else ModelUse(use[0], use[1], release, use[2], use[3]) for use in told)
        scores = np.frombuffer(numbers, dtype="<f8").reshape(rows, width)
        problems = {at: problem_named(*problem) for at, *problem in refused}
        if rows == 1 and not problems:
            if len(self._uses) >= MOST_USES:
                self._uses = {}
            self._uses[head] = uses
        return ScoreAnswer(scores, uses, problems)
