"""The JSON bodies that control routes take, checked by pydantic before anything is done with them.

Structure (types, unknown and missing members) is refused here as `body_invalid` with the path of the member at fault;
the rules of the registry (names, fallback chains, gates) are refused by the registry with codes of its own, so they
stand here only as documentation. Strict: no text becomes a number.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, ValidationError, WithJsonSchema

from gateway.errors import BodyInvalidError
from registry.groups import MAX_REPLICAS
from registry.records import DEFAULT_POOL, DEFAULT_REPLICAS, HoldAction
from registry.signature import MAX_INPUTS, MAX_WIDTH, Dtype, OutputKind

MAX_NUMBER: Final = 2**31 - 1
MAX_REASON: Final = 1000
GROUP_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,62}$"
FIELD_PATTERN: Final = r"^(?!(?:group|limit|cursor|since|wait|tag|release)$)[A-Za-z_][A-Za-z0-9_]{0,62}$"


def _whole(value: Any) -> Any:
    """JSON has one kind of number, so 4.0 is a whole one; text and booleans stay what they are, and are refused."""
    return int(value) if type(value) is float and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[Whole, Field(ge=1, le=MAX_NUMBER)]
Count = Annotated[Whole, Field(ge=0, le=MAX_NUMBER)]
KeyField = Annotated[str, Field(json_schema_extra={"pattern": FIELD_PATTERN})]
_NAME: Final = {"minLength": 1, "maxLength": 128, "pattern": r"^[^\x00-\x1f\x7f]+$"}
SpecName = Annotated[str, Field(json_schema_extra=_NAME)]
_DISTINCT: Final = {"uniqueItems": True}
_KEY_VALUE: Final = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": 512},
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    ]
}
_MOMENT: Final = {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
Replicas = Annotated[Whole, Field(json_schema_extra={"minimum": 1, "maximum": MAX_REPLICAS})]
PoolName = Annotated[str, Field(json_schema_extra={"pattern": GROUP_PATTERN})]
_LABEL: Final = {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "boolean"}]}
# Unions and free values are judged by the registry, which names the member at fault without naming a branch.
KeyValue = Annotated[Any, WithJsonSchema(_KEY_VALUE)]
LabelValue = Annotated[Any, WithJsonSchema(_LABEL)]
_ENTRIES: Final = {"maxProperties": 64, "propertyNames": {"pattern": "^[!-~]{1,128}$"}}
Free = Annotated[Any, WithJsonSchema({"description": "the value of an absent cell, of this dtype"})]


def _without_default(schema: dict[str, Any]) -> None:
    """An absent default and a default of null are two things, so the document must not equate them."""
    schema.pop("default", None)


class Body(BaseModel):
    """Root of all bodies: unknown members are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputBody(Body):
    """A named input. Without `default` a row must carry it; `from_key` feeds it a key field's value."""

    name: SpecName
    dtype: Dtype = "float64"
    nullable: bool = False
    default: Annotated[Free, Field(json_schema_extra=_without_default)] = None
    categories: Annotated[list[str], Field(json_schema_extra=_DISTINCT)] = []
    from_key: str | None = None


class OutputBody(Body):
    """A named output: a value (of `width` numbers), a class label, or probabilities over `classes`."""

    name: SpecName
    kind: OutputKind = "value"
    classes: Annotated[list[LabelValue], Field(json_schema_extra=_DISTINCT)] = []
    width: Annotated[Whole, Field(json_schema_extra={"minimum": 1, "maximum": MAX_WIDTH})] = 1


class SignatureBody(Body):
    """The named inputs and outputs that all models of a group share; names are distinct."""

    inputs: Annotated[list[InputBody], Field(json_schema_extra={"minItems": 1, "maxItems": MAX_INPUTS})]
    outputs: Annotated[list[OutputBody], Field(json_schema_extra={"minItems": 1, "maxItems": 64})]


class GroupBody(Body):
    """A new group. `shard_by` (default: all key fields) and each `fallback` level are subsets of `key`.

    `replicas` and `pool` say where its shards are held; see its placement.
    """

    name: Annotated[str, Field(json_schema_extra={"pattern": GROUP_PATTERN})]
    key: Annotated[list[KeyField], Field(json_schema_extra={"minItems": 1, "maxItems": 8, **_DISTINCT})]
    signature: SignatureBody
    shard_by: Annotated[list[KeyField], Field(json_schema_extra=_DISTINCT)] = []
    fallback: list[list[KeyField]] = []
    auto_release: bool = True
    replicas: Replicas = DEFAULT_REPLICAS
    pool: PoolName = DEFAULT_POOL


class PlacementBody(Body):
    """How many seats hold each shard of a group, and of which pool of workers; what is left out stays as it is."""

    replicas: Replicas | None = None
    pool: PoolName | None = None


class NamedVersionBody(Body):
    """One version named for a release. A key with fewer fields than the group's names a fallback model."""

    key: dict[str, KeyValue]
    version: Number


class GatesBody(Body):
    """Limits past which a release is `blocked` instead of `ready`."""

    max_lost: Count | None = None
    max_failed: Count | None = None
    max_stale_days: Count | None = None


class ReleaseBody(Body):
    """A release to build. Without `base` the live one; without `set` everything newer than the base."""

    base: Number | None = None
    set: list[NamedVersionBody] | None = None
    gates: GatesBody = GatesBody()


class DeploymentBody(Body):
    """What a deployment points at, and its share of the traffic in percent."""

    release: Number
    traffic: Annotated[Whole, Field(ge=0, le=100)] = 100


class DeploymentsBody(RootModel[dict[str, DeploymentBody]]):
    """All deployments of a group by name, complete: what is left out is removed."""

    model_config = ConfigDict(strict=True, frozen=True)


class HoldBody(Body):
    """A hold. `pin` needs `version`; `until` is a date or an RFC 3339 time, without it the hold has no end."""

    action: HoldAction
    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON)]
    version: Number | None = None
    author: Annotated[str, Field(max_length=200)] = ""
    until: Annotated[str, WithJsonSchema(_MOMENT)] | None = None


class ExamplesBody(Body):
    """Rows, and the answers their author got for them."""

    instances: Annotated[list[dict[str, Any] | list[Any]], Field(min_length=1, max_length=100)]
    predictions: Annotated[list[Any], Field(min_length=1, max_length=100)]


class MetaBody(Body):
    """What the author of a model says of it. Read by the registry; this is its documentation."""

    tags: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(json_schema_extra=_ENTRIES)] = {}
    metrics: Annotated[dict[str, float], Field(json_schema_extra=_ENTRIES)] = {}
    provenance: Annotated[dict[str, Annotated[str, Field(max_length=2048)]], Field(json_schema_extra=_ENTRIES)] = {}
    classes: Annotated[list[LabelValue], Field(json_schema_extra=_DISTINCT)] = []
    examples: ExamplesBody | None = None


Model = TypeVar("Model", bound=BaseModel)


def read_body_as(model: type[Model], given: object) -> Model:
    """A checked body from parsed JSON.

    Raises:
        BodyInvalidError: with the path of the first member at fault and what was expected there.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        field, detail = _first_fault(error)
        raise BodyInvalidError(detail, field=field) from error


def _first_fault(error: ValidationError) -> tuple[str | None, str]:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    first = faults[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    expected = _EXPECTED.get(first["type"], first["msg"][:1].lower() + first["msg"][1:])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return field, f"{field or 'the body'}: {expected}{more}"


_EXPECTED: Final[Mapping[str, str]] = {
    "extra_forbidden": "there is no such member",
    "missing": "this member is required",
    "model_type": "must be an object",
}
