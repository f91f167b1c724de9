"""The JSON that control routes answer, as types.

Each answer is a TypedDict: mypy holds `shapes` to it, and the OpenAPI document is made from it, so what is served and
what is documented cannot drift apart. Times are RFC 3339 UTC text, sizes are bytes, digests are hex SHA-256.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema
from typing_extensions import TypedDict

from discovery.snapshot import MemberState
from gateway.control.bodies import SignatureBody
from registry.records import HoldAction, ImportState, ReleaseState, RuntimeName


@dataclass(frozen=True)
class DocumentedAs:
    """Annotation: a plain JSON object in code, documented by the schema of a request body."""

    model: type[BaseModel]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic see the body's model instead of the plain object."""
        return handler.generate_schema(self.model)


Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Digest = Annotated[str, Field(json_schema_extra={"pattern": "^[0-9a-f]{64}$"})]
SignatureJson = Annotated[dict[str, Any], DocumentedAs(SignatureBody)]
KeyFields = Annotated[dict[str, str], Field(description="the key's fields, text to text")]
KeyText = Annotated[str, Field(description="canonical form, e.g. store=2/brand=tropicana; empty is the whole group")]


class ProblemJson(TypedDict):
    """RFC 9457 problem: `code` is stable, `detail` is for people; `field` and `row` say where, if anywhere."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    field: NotRequired[str]
    row: NotRequired[int]


class GroupShapeJson(TypedDict):
    """What a group is: one family of models with the same key fields and signature.

    In a house of seats (see the placement of a group) `replicas` seats of the pool hold each of its shards.
    """

    name: str
    key: list[str]
    shard_by: list[str]
    fallback: list[list[str]]
    signature: SignatureJson
    auto_release: bool
    suspended: bool
    replicas: int
    pool: str


class GroupJson(GroupShapeJson):
    """A group as listings show it."""

    created: Time


class LiveJson(TypedDict):
    """The release a group answers from. `age_seconds` counts from the moment the release was built."""

    deployment: str
    release: int
    promoted: Time | None
    age_seconds: float
    models: int
    bytes: int


class GroupDetailJson(GroupJson):
    """A group with what is live, how many keys have a model, and how many holds stand."""

    live: LiveJson | None
    models: int
    holds: int


class GroupListJson(TypedDict):
    """All groups."""

    groups: list[GroupJson]


class RegisteredJson(TypedDict):
    """The version that now stands for the key; `created` is false if these bytes already were its newest version."""

    key: KeyText
    version: int
    digest: Digest
    created: bool


class TombstoneJson(TypedDict):
    """The tombstone version: releases built from now on hold no model for the key."""

    key: KeyText
    version: int
    tombstone: Literal[True]


class VersionJson(TypedDict):
    """A model version. A tombstone has neither digest nor runtime."""

    key: KeyText
    fields: KeyFields
    version: int
    digest: Digest | None
    runtime: RuntimeName | None
    bytes: int
    heap_bytes: int
    tags: dict[str, str]
    metrics: dict[str, float]
    provenance: dict[str, str]
    created: Time
    withdrawn: bool
    tombstone: bool


class VersionListJson(TypedDict):
    """A page of newest versions, in key order; `cursor` asks for the next page, null at the end."""

    models: list[VersionJson]
    cursor: str | None


LivePeriodJson = TypedDict(
    "LivePeriodJson",
    {"deployment": str, "release": int, "from": Time, "to": Time | None},
)
LivePeriodJson.__doc__ = "A time for which a deployment answered with this version; `to` null is until now."


class VersionHistoryJson(VersionJson):
    """A version and when it was live."""

    live: list[LivePeriodJson]


class HistoryJson(TypedDict):
    """All versions of one key, newest first."""

    key: KeyText
    versions: list[VersionHistoryJson]


ImportJson = TypedDict(
    "ImportJson",
    {
        "import": int,
        "state": ImportState,
        "on_error": Literal["fail", "skip"],
        "rows": int,
        "proved": int,
        "registered": int,
        "unchanged": int,
        "rejected": int,
        "release": int | None,
        "error": dict[str, Any] | None,
        "created": Time,
        "finished": Time | None,
    },
)
ImportJson.__doc__ = "A bulk import: counts so far, the release it led to, and why it failed, if it did."


class ImportListJson(TypedDict):
    """All imports of a group, newest first."""

    imports: list[ImportJson]


class RejectJson(TypedDict):
    """A row of an import that did not become a version, and why."""

    row: int
    key: str | None
    code: str
    detail: str
    field: str | None


class RejectListJson(TypedDict):
    """A page of rejected rows, in row order."""

    rejects: list[RejectJson]
    cursor: str | None


class ReleaseJson(TypedDict):
    """A release. `report` counts added, changed, carried, lost, stale, failed and names a few of each once built."""

    number: int
    state: ReleaseState
    base: int | None
    models: int
    bytes: int
    report: dict[str, Any]
    created: Time
    ready: Time | None


class ReleaseListJson(TypedDict):
    """All releases of a group, newest first."""

    releases: list[ReleaseJson]


class DeploymentJson(TypedDict):
    """A named slot: which release it points at and its share of the traffic in percent."""

    release: int
    traffic: int


class DeploymentsJson(TypedDict):
    """All deployments of a group; empty while nothing is live."""

    deployments: dict[str, DeploymentJson]


class FlipJson(DeploymentsJson):
    """The deployments after a change: what kind of change it was, and how many versions a rollback withdrew."""

    kind: Literal["promote", "rollback", "same"]
    withdrawn: int


class HoldJson(TypedDict):
    """A standing rule for one key; `until` null is without end."""

    key: KeyText
    action: HoldAction
    version: int | None
    reason: str
    author: str
    created: Time
    until: Time | None


class HoldListJson(TypedDict):
    """The holds that stand now."""

    holds: list[HoldJson]


class MemberJson(TypedDict):
    """A member as discovery sees it."""

    id: str
    uri: str
    state: MemberState
    services: list[str]
    metadata: dict[str, str]


class SeatedJson(TypedDict):
    """How many seats hold shards of the live release, and of its shards how many move and how many nobody serves."""

    seats: int
    moving: int
    unserved: int


class GroupStatusJson(TypedDict):
    """How one group fares: what is live and what is lost, stale or held in it.

    `seated` is null where every worker holds everything.
    """

    name: str
    live: LiveJson | None
    lost: int
    stale: int
    held: list[HoldJson]
    shards: int
    replicas: int
    pool: str
    seated: SeatedJson | None
    models: int
    newest_release: ReleaseJson | None


class CacheJson(TypedDict):
    """The answering process's cache of native models."""

    bytes: int
    budget_bytes: int
    models: int
    hits: int
    misses: int
    evictions: int


class PacksJson(TypedDict):
    """The packs that the answering process has mapped: bytes, segments, and how often it mapped and unmapped one."""

    bytes: int
    budget_bytes: int
    segments: int
    mapped: int
    unmapped: int


class StatusJson(TypedDict):
    """The whole house at a glance."""

    revision: str
    groups: list[GroupStatusJson]
    unreadable: list[str]
    members: list[MemberJson]
    cache: CacheJson
    packs: PacksJson


class HealthJson(TypedDict):
    """Whether this process lives, or is ready to answer."""

    status: Literal["ok"]
