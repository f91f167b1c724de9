"""The JSON that the routes of discovery answer, as types; the conventions are those of `answers`."""

from typing import NotRequired

from typing_extensions import TypedDict

from discovery.snapshot import MemberState
from gateway.control.answers import DeploymentJson, Digest, GroupShapeJson, KeyText, MemberJson


class ServingMemberJson(TypedDict):
    """A member that serves a shard."""

    id: str
    uri: str
    state: MemberState


class StandingJson(ServingMemberJson):
    """Why a member stands where it stands for a shard.

    `rank` is in which turn it is asked, null if it is not. `seat` is null for a member that holds everything. Of equal
    members the one of greater `score` (0 to 1) is preferred.
    """

    rank: int | None
    reason: str
    seat: str | None
    zone: str
    score: float


class LookupJson(TypedDict):
    """Where a key is served and which model answers; members in order of preference; good for `ttl` seconds.

    `explanation`, if it was asked for, tells of every member why it stands where it stands.
    """

    group: str
    key: KeyText
    shard: int
    slot: int
    release: int
    deployment: str
    version: int
    model_key: KeyText
    fallback_level: int
    members: list[ServingMemberJson]
    explanation: NotRequired[list[StandingJson]]
    revision: str
    ttl: float


class ServicesJson(TypedDict):
    """Members by the service they offer."""

    services: dict[str, list[MemberJson]]
    revision: str


class MappedReleaseJson(TypedDict):
    """A release that members map: its manifest's digest, shard count, models and bytes."""

    release: int
    manifest: Digest
    shards: int
    models: int
    bytes: int


class MoveJson(TypedDict):
    """A shard that moves: seats that are to hold it and do not yet, and those that go when they do."""

    coming: list[str]
    former: list[str]


class GroupViewJson(GroupShapeJson):
    """A group as requests see it at one revision.

    `seats` names for each shard, by count of shards, the seats that hold it in the order in which they are asked; it is
    empty where every worker holds everything. `moves` tells, by count and shard, who of them comes and who goes.
    """

    disabled: int
    deployments: dict[str, DeploymentJson]
    releases: list[MappedReleaseJson]
    seats: dict[str, list[list[str]]]
    moves: dict[str, dict[str, MoveJson]]


class SnapshotJson(TypedDict):
    """Everything at one revision."""

    revision: str
    groups: list[GroupViewJson]
    members: list[MemberJson]
