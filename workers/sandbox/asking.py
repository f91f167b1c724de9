"""Rows of a call for models in sandboxes: handed out by sandbox, awaited, and laid where they belong."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from registry.errors import Problem
from workers.features import Features, Matrix
from workers.resolving import Resolved
from workers.runtimes.sheet import Sheet
from workers.sandbox.sandbox import Outcome, Sandbox, SandboxedModel, Task

# Of one turn in a sandbox: a bulk should not keep single rows waiting longer than a large model does.
MOST_TASKS: Final = 64
MOST_ROWS: Final = 10_000

Asked = tuple[int, SandboxedModel, Resolved]  # position of the key, its model, and where that lies


@dataclass(slots=True)
class Turn:
    """What one sandbox is asked at a time, and the positions of the keys it answers for."""

    sandbox: Sandbox
    positions: list[int] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    rows: int = 0

    def has_room(self, rows: int) -> bool:
        """Whether a task of so many rows fits; one that is larger than all that is allowed goes alone."""
        return not self.tasks or (len(self.tasks) < MOST_TASKS and self.rows + rows <= MOST_ROWS)


async def ask(model: SandboxedModel, resolved: Resolved, features: Features) -> Matrix:
    """Scores of rows for one model. Raises what is wrong with it; OverloadedError if too many wait for others there."""
    [outcome] = await model.sandbox.predict([Task(model, resolved, features)], patient=False)
    if isinstance(outcome, Problem):
        raise outcome
    return outcome


def turns_of(sheet: Sheet, asked: Sequence[Asked], rows: Sequence[Sequence[int]]) -> list[Turn]:
    """The rows of some keys, by sandbox, in turns; `rows` are those of each position."""
    open_: dict[int, Turn] = {}
    turns: list[Turn] = []
    for position, model, resolved in asked:
        own = rows[position]
        turn = open_.get(id(model.sandbox))
        if turn is None or not turn.has_room(len(own)):
            turn = open_[id(model.sandbox)] = Turn(model.sandbox)
            turns.append(turn)
        features = sheet.features.take(np.array(own, dtype=np.intp))
        turn.positions.append(position)
        turn.tasks.append(Task(model, resolved, features))
        turn.rows += len(own)
    return turns


async def outcomes_of(turns: Sequence[Turn]) -> Mapping[int, Outcome]:
    """What each key's model answered, by position. Sandboxes work side by side, the turns of each one by one."""
    found: dict[int, Outcome] = {}

    async def in_turn(own: Sequence[Turn]) -> None:
        for turn in own:
            outcomes = await turn.sandbox.predict(turn.tasks, patient=True)
            found.update(zip(turn.positions, outcomes, strict=True))

    by_sandbox: dict[int, list[Turn]] = {}
    for turn in turns:
        by_sandbox.setdefault(id(turn.sandbox), []).append(turn)
    await asyncio.gather(*map(in_turn, by_sandbox.values()))
    return found


def fill(
    sheet: Sheet, problems: dict[int, Problem], outcomes: Mapping[int, Outcome], rows: Sequence[Sequence[int]]
) -> None:
    """Lay scores into their rows of the sheet; a refusal is noted by its position."""
    for position, outcome in outcomes.items():
        if isinstance(outcome, Problem):
            problems[position] = outcome
        else:
            sheet.scores[list(rows[position])] = outcome
