"""The single predict: one key, a few rows, an answer within milliseconds.

Everything a warm answer needs is in memory and the whole path runs without waiting; a cold model is awaited.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import orjson

from discovery.lookup import live_deployment
from discovery.snapshot import DeploymentView, GroupView
from gateway.data.answers import AnswerReader, non_finite_rows
from gateway.data.bulk_rows import check_rows, level_limit, object_body, parse_json
from gateway.data.rows import RowReader
from gateway.errors import BodyInvalidError, NonFinitePredictionError, code_of
from gateway.metrics import DataMetrics
from workers.client import ModelUse, ScoreCall, WorkerClient

_FIELDS: Final = frozenset({"key", "instances", "max_fallback_level"})
NON_FINITE: Final = "the model's answer is not a finite number"


async def predict(
    view: GroupView,
    reader: RowReader,
    answers: AnswerReader,
    worker: WorkerClient,
    metrics: DataMetrics,
    raw: bytes,
    limit: int,
) -> bytes:
    """Answer one request body.

    Raises:
        Problem: what is wrong with the request, or why no model answers.
    """
    body = object_body(parse_json(raw), _FIELDS)
    key = view.schema.parse(_field(body, "key", dict))
    instances = _field(body, "instances", list)
    check_rows(len(instances), limit, "instances")
    features = reader.instances(instances, dict(zip(view.schema.fields, key, strict=True)) if reader.feeds else {})
    deployment = live_deployment(view)
    call = ScoreCall(
        group=view.name,
        release=deployment.release.number,
        keys=(key,),
        key_rows=None,
        features=features,
        max_level=level_limit(body, view.schema),
        disabled=view.disabled,
    )
    answer = await worker.score(call)
    use = answer.models[0]
    if use is None or answer.problems:
        raise answer.problems[0]
    metrics.level_answered(use.fallback_level, len(instances))
    body_start = b'{"predictions":' + orjson.dumps(answers.predictions(answer.scores))
    bad = non_finite_rows(answer.scores)
    if len(bad):
        return body_start + b',"errors":' + _non_finite(bad.tolist()) + _model(use, deployment)
    return body_start + _model(use, deployment)


def model_json(use: ModelUse, deployment: DeploymentView) -> bytes:
    """The `model` object of an answer."""
    return use.wire[:-1] + _deployment_json(deployment.name)


@cache
def _deployment_json(name: str) -> bytes:
    return b',"deployment":' + orjson.dumps(name) + b"}"


def _model(use: ModelUse, deployment: DeploymentView) -> bytes:
    return b',"model":' + model_json(use, deployment) + b"}"


def _non_finite(rows: list[int]) -> bytes:
    code = code_of(NonFinitePredictionError(NON_FINITE))
    return orjson.dumps([{"row": row, "code": code, "detail": NON_FINITE} for row in rows])


def _field(body: Mapping[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if type(value) is not kind:
        expected = "an object" if kind is dict else "a list"
        raise BodyInvalidError(f"{name} must be {expected}", field=name)
    return value
