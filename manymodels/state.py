"""How a server and its groups fare, as immutable values: what `status` answers."""

from dataclasses import dataclass
from typing import Any

from manymodels.reading import pick
from manymodels.records import Hold, LiveRelease, Release
from manymodels.results import Member


@dataclass(frozen=True, slots=True)
class Seated:
    """How many seats hold shards of the live release; of its shards how many move, and how many nobody serves."""

    seats: int
    moving: int
    unserved: int


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group at a glance: `lost` and `stale` count keys of the live release, `held` are its holds.

    `seated` is None where every worker holds everything.
    """

    name: str
    live: LiveRelease | None
    lost: int
    stale: int
    held: tuple[Hold, ...]
    shards: int
    models: int
    newest_release: Release | None
    replicas: int = 2
    pool: str = "default"
    seated: Seated | None = None

    @classmethod
    def from_json(cls, body: Any) -> "GroupStatus":
        """Read the JSON form."""
        newest, seated = body.get("newest_release"), body.get("seated")
        return pick(
            cls,
            body,
            live=LiveRelease.from_json(body.get("live")),
            held=tuple(Hold.from_json(hold) for hold in body.get("held", ())),
            newest_release=None if newest is None else Release.from_json(newest),
            seated=None if seated is None else pick(Seated, seated),
        )


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The cache of native models of the process that answered; `bytes` is measured heap."""

    bytes: int
    budget_bytes: int
    models: int
    hits: int
    misses: int
    evictions: int


@dataclass(frozen=True, slots=True)
class PacksStatus:
    """The packs that the process that answered has mapped, and how often it mapped and unmapped a segment's."""

    bytes: int
    budget_bytes: int
    segments: int
    mapped: int
    unmapped: int


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a server.

    Attributes:
        unreadable: names of groups of which its registry says what makes no sense.
    """

    revision: str
    groups: tuple[GroupStatus, ...]
    members: tuple[Member, ...]
    cache: CacheStatus
    packs: PacksStatus
    unreadable: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, body: Any) -> "Status":
        """Read the JSON form."""
        return pick(
            cls,
            body,
            groups=tuple(GroupStatus.from_json(group) for group in body.get("groups", ())),
            members=tuple(pick(Member, member) for member in body.get("members", ())),
            cache=pick(CacheStatus, body.get("cache")),
            packs=pick(PacksStatus, body.get("packs")),
            unreadable=tuple(body.get("unreadable", ())),
        )
