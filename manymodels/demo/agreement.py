"""Whether served answers equal what the native libraries answer: every partition, asked in three ways.

The model that must answer is found here from first principles (the partition's own, else its brand's, else the whole
group's), so that a wrong fallback is caught as well as a wrong number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from manymodels.demo.history import FEATURES
from manymodels.demo.training import FALLBACK, KEY, Kind, Trained

TOLERANCE: Final = 1e-6  # relative, where answers are not equal to the last bit by construction
WAYS: Final = ("single", "JSON bulk", "Arrow bulk")


class Asking(Protocol):
    """The part of the client that asks for predictions."""

    def predict(self, group: str, key: Mapping[str, str | int], instances: Any) -> Any:
        """The answer for one key."""

    def predict_bulk(self, group: str, data: Any) -> Any:
        """The answers for many keys."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one way of asking one fleet came out.

    Attributes:
        group, way: who was asked, and how.
        rows: how many answers were compared.
        fallbacks: how many of them came from a fallback model.
        worst: largest relative difference.
        wrong: what does not agree, for people; empty if all is well.
    """

    group: str
    way: str
    rows: int
    fallbacks: int
    worst: float
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be answered for the rows asked, in their order: predictions, and the level they come from."""

    predictions: NDArray[np.float64]
    levels: list[int]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one key: `rows` of the whole, as a frame of the features and as they go to a single predict."""

    key: dict[str, str]
    rows: list[int]
    features: pd.DataFrame
    instances: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """All rows asked, keys and features side by side, and the same by key."""

    table: pd.DataFrame
    questions: list[Question]


def asked_of(table: pd.DataFrame) -> Asked:
    """Group the rows to ask by their key."""
    features = table[list(FEATURES)]
    instances = cast("list[dict[str, Any]]", features.to_dict("records"))
    questions = []
    for values, positions in table.groupby(list(KEY), sort=False).indices.items():
        rows = [int(position) for position in positions]
        key = dict(zip(KEY, cast("tuple[str, ...]", values), strict=True))
        questions.append(Question(key, rows, features.iloc[rows], [instances[row] for row in rows]))
    return Asked(table, questions)


def expected_answers(fleet: Sequence[Trained], asked: Asked) -> Expected:
    """The native answers of the models that must answer these rows."""
    models = {_identity(model.key): model for model in fleet}
    predictions = np.full(len(asked.table), np.nan)
    levels = [0] * len(asked.table)
    for question in asked.questions:
        level, model = _answering(models, question.key)
        predictions[question.rows] = model.native(question.features)
        for row in question.rows:
            levels[row] = level
    return Expected(predictions, levels)


def compare(
    client: Asking, kind: Kind, fleet: Sequence[Trained], asked: Asked, advance: Callable[[], object]
) -> list[Agreement]:
    """Ask in all three ways and compare; `advance` is called after each."""
    expected = expected_answers(fleet, asked)
    found = []
    for way, ask in zip(WAYS, (_ask_single, _ask_json, _ask_arrow), strict=True):
        predictions, levels = ask(client, kind.group, asked)
        found.append(judged(kind, way, expected, predictions, levels))
        advance()
    return found


def judged(
    kind: Kind, way: str, expected: Expected, predictions: Sequence[float | None], levels: Sequence[int | None]
) -> Agreement:
    """Served answers against expected ones."""
    served = np.array([np.nan if value is None else value for value in predictions], dtype=np.float64)
    scale = np.maximum(np.abs(expected.predictions), np.finfo(np.float64).tiny)
    difference = np.abs(served - expected.predictions) / scale
    agree = served == expected.predictions if kind.exact else difference <= TOLERANCE
    wrong = [
        f"row {row}: {served[row]!r} instead of {expected.predictions[row]!r}"
        for row in np.flatnonzero(~agree).tolist()
    ]
    wrong += [
        f"row {row}: fallback level {got} instead of {level}"
        for row, (got, level) in enumerate(zip(levels, expected.levels, strict=True))
        if got != level
    ]
    fallbacks = sum(level > 0 for level in expected.levels)
    return Agreement(kind.group, way, len(served), fallbacks, float(np.max(difference)), tuple(wrong))


def _answering(models: Mapping[tuple[tuple[str, str], ...], Trained], key: Mapping[str, str]) -> tuple[int, Trained]:
    for level, fields in enumerate((KEY, *FALLBACK)):
        model = models.get(_identity({field: key[field] for field in fields}))
        if model is not None:
            return level, model
    raise LookupError(f"no model answers for {dict(key)}")


def _identity(key: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(key.items()))


def _ask_single(client: Asking, group: str, asked: Asked) -> tuple[list[Any], list[int | None]]:
    predictions: list[Any] = [None] * len(asked.table)
    levels: list[int | None] = [None] * len(asked.table)
    for question in asked.questions:
        answer = client.predict(group, question.key, question.instances)
        for row, value in zip(question.rows, answer.predictions, strict=True):
            predictions[row] = value
            levels[row] = answer.model.fallback_level
    return predictions, levels


def _ask_json(client: Asking, group: str, asked: Asked) -> tuple[Sequence[Any], Sequence[int | None]]:
    result = client.predict_bulk(group, asked.table.to_dict("split", index=False))
    return result.predictions, result.fallback_level


def _ask_arrow(client: Asking, group: str, asked: Asked) -> tuple[Sequence[Any], Sequence[int | None]]:
    result = client.predict_bulk(group, asked.table)
    return result.predictions, result.fallback_level
