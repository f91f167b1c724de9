"""The OpenAPI 3.1 document, rendered from the route table and the types of bodies and answers.

Nothing is described twice: schemas come from the types that check bodies and type answers, statuses of problems from
the same table that answers them. Every problem response lists its codes, so a caller knows what there is to handle.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema

from gateway.control.answers import ProblemJson
from gateway.control.operation import JSON, Answer, Lead, Operation, Parameter, Payload, Shape
from gateway.problems import MEDIA_TYPE, STATUS

_Links = Callable[[Lead], dict[str, Any]]

_REFERENCE: Final = "#/components/schemas/{model}"
_EVERYWHERE: Final = ("internal_error",)
_VERSIONED: Final = ("parameter_invalid", "database_busy")
_IN_PATH: Final = ("not_found",)
_REQUEST_ID: Final = {
    "x-request-id": {
        "description": "the request's own id if it sent a plain one, else one of ours",
        "schema": {"type": "string"},
    }
}
_TAGS: Final = {
    "groups": "families of models with one signature",
    "models": "model versions by partition key",
    "imports": "many models from one Parquet file",
    "releases": "immutable lists of which version answers for which key",
    "deployments": "what is live",
    "holds": "standing rules for one key",
    "predict": "answers",
    "discovery": "where a partition is served",
    "operations": "health, metrics, status",
}


class _Plain(GenerateJsonSchema):
    """Leaves out the titles that repeat member names."""

    def field_title_should_be_set(self, schema: CoreSchema) -> bool:  # noqa: ARG002 - the library's signature
        return False


def render(operations: Sequence[Operation]) -> bytes:
    """The document of these operations as JSON."""
    shapes = _Shapes(operations)
    links = partial(_links, operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        if operation.documented:
            paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, shapes, links)
    body = {
        "openapi": "3.1.0",
        "info": {
            "title": "manymodels",
            "version": product_version(),
            "description": "Many small models, one per partition, served as if they were one.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": shapes.components},
    }
    return orjson.dumps(_renamed(body))


def product_version() -> str:
    """The installed version of manymodels."""
    try:
        return version("manymodels")
    except PackageNotFoundError:
        return "0"


class _Shapes:
    """JSON schemas of all shapes that the operations name, generated in one go so that they share components."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        named = {id(shape): shape for shape in [ProblemJson, *_shapes(operations)]}
        found, definitions = TypeAdapter.json_schemas(
            [(number, "validation", TypeAdapter(shape)) for number, shape in named.items()],
            ref_template=_REFERENCE,
            schema_generator=_Plain,
        )
        self._found = {number: schema for (number, _), schema in found.items()}
        self.components: dict[str, Any] = definitions["$defs"]

    def of(self, shape: Shape) -> Mapping[str, Any]:
        """The schema of a shape, mostly a reference."""
        return self._found[id(shape)]


def _shapes(operations: Iterable[Operation]) -> Iterable[Shape]:
    for operation in operations:
        yield from (answer.shape for answer in operation.answers if answer.shape is not None)
        yield from (parameter.content for parameter in operation.parameters if parameter.content is not None)
        if operation.payload is not None and operation.payload.shape is not None:
            yield operation.payload.shape


def _operation(operation: Operation, shapes: _Shapes, links: _Links) -> dict[str, Any]:
    body: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": {**_answers(operation.answers, shapes, links), **_problems(operation, shapes)},
    }
    if operation.description:
        body["description"] = operation.description
    if operation.parameters:
        body["parameters"] = [_parameter(parameter, shapes) for parameter in operation.parameters]
    if operation.payload is not None:
        body["requestBody"] = _payload(operation.payload, shapes)
    return body


def _parameter(parameter: Parameter, shapes: _Shapes) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "required": parameter.required,
    }
    if parameter.example is not None:
        body["example"] = parameter.example
    if parameter.content is not None:
        return body | {"content": {JSON: {"schema": shapes.of(parameter.content)}}}
    body["schema"] = parameter.schema
    if parameter.free:
        body |= {"style": "form", "explode": True}
    return body


def _payload(payload: Payload, shapes: _Shapes) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for media in payload.media:
        if media == JSON and payload.shape is not None:
            content[media] = {"schema": shapes.of(payload.shape)}
            if payload.example is not None:
                content[media]["example"] = payload.example
        else:
            content[media] = {"schema": payload.schema or {}}
    return {"description": payload.description, "required": payload.required, "content": content}


def _answers(answers: Sequence[Answer], shapes: _Shapes, links: _Links) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for answer in answers:
        response = responses.setdefault(
            str(answer.status), {"description": answer.description, "headers": _headers(answer.headers)}
        )
        if answer.leads is not None:
            response["links"] = links(answer.leads)
        if answer.shape is not None:
            response.setdefault("content", {})[answer.media] = {"schema": shapes.of(answer.shape)}
        elif answer.schema is not None:
            response.setdefault("content", {})[answer.media] = {"schema": answer.schema}
    return responses


def _links(operations: Sequence[Operation], lead: Lead) -> dict[str, Any]:
    """A link to every operation that the lead's parameters are enough to find."""
    known = {f"{{{name}}}" for name in lead.parameters}
    return {
        operation.name: {"operationId": operation.name, "parameters": dict(lead.parameters)}
        for operation in operations
        if operation.path.startswith(lead.path) and set(re.findall(r"{\w+}", operation.path)) == known
    }


def _headers(named: Mapping[str, str]) -> dict[str, Any]:
    own = {name: {"description": text, "required": True, "schema": {"type": "string"}} for name, text in named.items()}
    return {**own, **_REQUEST_ID}


def _problems(operation: Operation, shapes: _Shapes) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in problem_codes(operation):
        by_status.setdefault(STATUS[code], []).append(code)
    return {
        str(status): {
            "description": "problem: " + ", ".join(f"`{code}`" for code in codes),
            "headers": _REQUEST_ID,
            "content": {
                MEDIA_TYPE: {
                    "schema": {
                        "allOf": [shapes.of(ProblemJson)],
                        "properties": {"code": {"enum": codes}, "status": {"const": status}},
                    }
                }
            },
        }
        for status, codes in sorted(by_status.items())
    }


def problem_codes(operation: Operation) -> list[str]:
    """Every code an operation may answer, sorted."""
    codes = {*operation.problems, *_EVERYWHERE}
    if operation.path.startswith("/v1/"):
        codes.update(_VERSIONED)
    if "{" in operation.path:
        codes.update(_IN_PATH)
    return sorted(codes)


def _renamed(value: Any) -> Any:
    """Component names without the suffix that tells wire types from records in code."""
    if isinstance(value, dict):
        return {
            (name.removesuffix("Json") if name.endswith("Json") else name): (
                item.removesuffix("Json") if name == "$ref" else _renamed(item)
            )
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    return value
