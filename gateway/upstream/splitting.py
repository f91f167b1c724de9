"""Splitting a bulk by worker and joining its answers: pure functions, rows in order whatever came back when."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from registry.errors import Problem
from workers.client import ModelUse, ScoreAnswer, ScoreCall

T = TypeVar("T")


class Part(NamedTuple):
    """What one worker is asked of a bulk.

    Attributes:
        keys: int32, positions of its keys among those of the whole.
        rows: intp, positions of its rows among those of the whole.
    """

    call: ScoreCall
    keys: NDArray[np.int32]
    rows: NDArray[np.intp]


def keys_by(owners: Iterable[T]) -> dict[T, list[int]]:
    """Positions of keys by who is to be asked for them, given each key's."""
    found: dict[T, list[int]] = {}
    for position, owner in enumerate(owners):
        found.setdefault(owner, []).append(position)
    return found


def part_of(call: ScoreCall, keys: Sequence[int]) -> Part:
    """The part of a bulk that has these of its keys."""
    chosen = np.asarray(keys, dtype=np.int32)
    if len(chosen) == len(call.keys):
        return Part(call, chosen, np.arange(len(call.features)))
    assert call.key_rows is not None, "a call of one key is never split"
    renumbered = np.full(len(call.keys), -1, dtype=np.int32)
    renumbered[chosen] = np.arange(len(chosen), dtype=np.int32)
    key_rows = renumbered[call.key_rows]
    rows = np.flatnonzero(key_rows >= 0)
    smaller = replace(
        call, keys=[call.keys[at] for at in keys], key_rows=key_rows[rows], features=call.features.take(rows)
    )
    return Part(smaller, chosen, rows)


class Joined:
    """The answers of parts as the answer of the whole."""

    def __init__(self, call: ScoreCall) -> None:
        self._rows = len(call.features)
        self._models: list[ModelUse | None] = [None] * len(call.keys)
        self._problems: dict[int, Problem] = {}
        self._scores: NDArray[np.float64] | None = None

    def add(self, part: Part, answer: ScoreAnswer) -> None:
        """Put in what one worker answered, in place of what another may have said before."""
        if self._scores is None:
            self._scores = np.full((self._rows, answer.scores.shape[1]), np.nan)
        self._scores[part.rows] = answer.scores
        places = part.keys.tolist()
        for at, use in zip(places, answer.models, strict=True):
            self._models[at] = use
            self._problems.pop(at, None)
        self._problems |= {places[at]: problem for at, problem in answer.problems.items()}

    def refuse(self, part: Part, problem: Problem) -> None:
        """Put in that nobody could be asked for these keys."""
        self._problems |= dict.fromkeys(part.keys.tolist(), problem)

    def answer(self, width: Callable[[], int]) -> ScoreAnswer:
        """The whole; `width` tells the score columns where no part was answered."""
        scores = self._scores if self._scores is not None else np.full((self._rows, width()), np.nan)
        return ScoreAnswer(scores, self._models, self._problems)


def refused(problems: Mapping[int, Problem], keys: int) -> Problem | None:
    """The problem to tell of the whole where every key has one and the same kind; else None."""
    kinds = {type(problem) for problem in problems.values()}
    return next(iter(problems.values())) if len(problems) == keys and len(kinds) == 1 else None
