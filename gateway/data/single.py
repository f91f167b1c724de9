"""The single predict: one key, a few rows, an answer within milliseconds.

Reading a request and writing its answer are apart, because what lies between them may have to be awaited: a warm model
answers at once, a cold one is loaded first.
"""

from collections.abc import Mapping
from functools import cache
from math import isfinite
from typing import Any, Final

import orjson

from discovery.lookup import live_deployment
from discovery.snapshot import DeploymentView, GroupView
from gateway.data.answers import AnswerReader, non_finite_rows
from gateway.data.bulk_rows import check_rows, level_limit, object_body, parse_json
from gateway.data.rows import RowReader
from gateway.errors import BodyInvalidError, NonFinitePredictionError, code_of
from gateway.metrics import DataMetrics
from workers.client import ModelUse, ScoreAnswer, ScoreCall

_FIELDS: Final = frozenset({"key", "instances", "max_fallback_level"})
NON_FINITE: Final = "the model's answer is not a finite number"


def read_call(view: GroupView, reader: RowReader, raw: bytes, limit: int) -> tuple[ScoreCall, DeploymentView]:
    """Read one request body: what to score, and the deployment that answers.

    Raises:
        Problem: what is wrong with the request, or that nothing is live.
    """
    body = object_body(parse_json(raw), _FIELDS)
    schema = view.schema
    key = schema.parse(_field(body, "key", dict))
    instances = _field(body, "instances", list)
    check_rows(len(instances), reader.row_limit(limit), "instances")
    features = reader.instances(instances, dict(zip(schema.fields, key, strict=True)) if reader.feeds else {})
    deployment = live_deployment(view)
    max_level = level_limit(body, schema)
    release = deployment.release.number
    return ScoreCall(view.name, release, (key,), None, features, max_level, view.disabled), deployment


def written(answer: ScoreAnswer, deployment: DeploymentView, answers: AnswerReader, metrics: DataMetrics) -> bytes:
    """The response body of a call's answer.

    Raises:
        Problem: why no model answers.
    """
    use = answer.models[0]
    if use is None or answer.problems:
        raise answer.problems[0]
    scores = answer.scores
    metrics.level_answered(use.fallback_level, len(scores))
    if scores.size == 1 and answers.plain:
        value = scores.item()
        if isfinite(value):
            return b'{"predictions":[%b]%b' % (orjson.dumps(value), _model(use, deployment))
    start = b'{"predictions":' + orjson.dumps(answers.predictions(scores))
    bad = non_finite_rows(scores)
    if len(bad):
        start += b',"errors":' + _non_finite(bad.tolist())
    return start + _model(use, deployment)


def model_json(use: ModelUse, deployment: DeploymentView) -> bytes:
    """The `model` object of an answer."""
    return use.wire[:-1] + _deployment_json(deployment.name)


@cache
def _deployment_json(name: str) -> bytes:
    return b',"deployment":' + orjson.dumps(name) + b"}"


def _model(use: ModelUse, deployment: DeploymentView) -> bytes:
    return b',"model":%b%b}' % (use.wire[:-1], _deployment_json(deployment.name))


def _non_finite(rows: list[int]) -> bytes:
    code = code_of(NonFinitePredictionError(NON_FINITE))
    return orjson.dumps([{"row": row, "code": code, "detail": NON_FINITE} for row in rows])


def _field(body: Mapping[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if type(value) is not kind:
        expected = "an object" if kind is dict else "a list"
        raise BodyInvalidError(f"{name} must be {expected}", field=name)
    return value
