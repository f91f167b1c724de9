"""The bulk predict: many rows of many keys in one call, from one snapshot.

JSON and Arrow differ only in how rows are read and answers written; between them lies the same scoring.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from discovery.lookup import live_deployment
from discovery.snapshot import DeploymentView, GroupView
from gateway.data.answers import AnswerReader, non_finite_rows, spread
from gateway.data.bulk_rows import BulkRows
from gateway.data.single import NON_FINITE, model_json
from gateway.errors import NonFinitePredictionError, code_of
from gateway.metrics import DataMetrics
from registry.errors import Problem
from workers.client import ModelUse, ScoreAnswer, ScoreCall, WorkerClient


@dataclass(slots=True)
class BulkAnswer:
    """A scored bulk.

    Attributes:
        rows: what was asked; its `errors` now hold every row that has no prediction.
        scored: scores of the scored rows, in the order of `rows.places`, and the models that gave them.
        levels: int64, shape (scored rows,): fallback level of each row's model, -1 for none.
        deployment: that answered.
    """

    rows: BulkRows
    scored: ScoreAnswer
    levels: NDArray[np.int64]
    deployment: DeploymentView


async def score_bulk(view: GroupView, rows: BulkRows, worker: WorkerClient, metrics: DataMetrics) -> BulkAnswer:
    """Score the good rows of a bulk; what goes wrong with a key becomes an error of its rows.

    Raises:
        Problem: what refuses the whole request.
    """
    deployment = live_deployment(view)
    call = ScoreCall(
        group=view.name,
        release=deployment.release.number,
        keys=rows.keys,
        key_rows=rows.key_rows,
        features=rows.features,
        max_level=rows.max_level,
        disabled=view.disabled,
    )
    scored = await worker.score(call)
    _add_errors(rows, scored)
    of_keys = [-1 if use is None else use.fallback_level for use in scored.models]
    levels = np.array(of_keys, dtype=np.int64)[rows.key_rows]
    for level, count in enumerate(np.bincount(levels[levels >= 0]).tolist()):
        if count:
            metrics.level_answered(level, count)
    return BulkAnswer(rows, scored, levels, deployment)


def json_answer(answer: BulkAnswer, reader: AnswerReader) -> bytes:
    """The JSON body of a bulk answer."""
    rows, deployment = answer.rows, answer.deployment
    body: dict[str, Any] = {
        "predictions": _by_row(reader.predictions(answer.scored.scores), rows),
        "fallback_level": _by_row(answer.levels.tolist(), rows),
        "releases": {deployment.name: deployment.release.number},
        "errors": [error_json(row, rows.errors[row]) for row in sorted(rows.errors)],
    }
    if rows.explain:
        body |= _explanation(answer)
    return orjson.dumps(body)


def error_json(row: int, problem: Problem) -> dict[str, Any]:
    """One entry of a bulk's `errors`."""
    entry: dict[str, Any] = {"row": row, "code": code_of(problem), "detail": problem.detail}
    if problem.field is not None:
        entry["field"] = problem.field
    return entry


def _add_errors(rows: BulkRows, scored: ScoreAnswer) -> None:
    if scored.problems:
        of_key = np.zeros(len(rows.keys), dtype=bool)
        of_key[list(scored.problems)] = True
        for index in np.flatnonzero(of_key[rows.key_rows]).tolist():
            rows.errors[int(rows.places[index])] = scored.problems[int(rows.key_rows[index])]
    for index in non_finite_rows(scored.scores).tolist():
        rows.errors.setdefault(int(rows.places[index]), NonFinitePredictionError(NON_FINITE))


def _by_row(scored: Sequence[Any], rows: BulkRows) -> list[Any]:
    """Values of the scored rows at their places among all rows; None where there is an error."""
    values = spread(scored, rows.places, rows.total)
    for row in rows.errors:
        values[row] = None
    return values


def _explanation(answer: BulkAnswer) -> dict[str, Any]:
    rows = answer.rows
    models: list[orjson.Fragment] = []
    index_of: list[int | None] = []
    known: dict[ModelUse, int] = {}
    for use in answer.scored.models:
        if use is None:
            index_of.append(None)
            continue
        if use not in known:
            known[use] = len(models)
            models.append(orjson.Fragment(model_json(use, answer.deployment)))
        index_of.append(known[use])
    return {"models": models, "model_index": _by_row([index_of[key] for key in rows.key_rows.tolist()], rows)}
