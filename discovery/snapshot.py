"""The snapshot: discovery's immutable picture of the whole house at one revision.

A request fixes one snapshot and answers from it whatever changes meanwhile. Snapshots are built off the request path
and swapped by one assignment; nothing in them is ever mutated.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from discovery.seats import Move, PoolSeats, Seats
from registry.keys import KeySchema
from registry.manifest import Manifest
from registry.records import DEFAULT_POOL, DEFAULT_REPLICAS
from registry.signature import Signature

MemberState = Literal["alive", "suspect", "draining", "dead"]

_NUMBER: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Revision:
    """`<epoch>-<n>`: opaque to clients, and comparable between all processes of one house.

    The epoch joins the registry's and the membership's, so it changes when either starts anew. n is the sum of the
    registry's revision and the membership's count of changes: both only grow and both are shared, so n grows with
    every change of either, and two processes that hold different pictures under one n are about to see a greater one.
    """

    epoch: str
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> "Revision":
        """Read a revision that a client gives back; a text that is none of ours is an epoch nobody knows."""
        epoch, _, number = text.rpartition("-")
        return cls(epoch, int(number)) if _NUMBER.fullmatch(number) else cls(text, 0)


@dataclass(frozen=True, slots=True)
class Member:
    """A worker as discovery sees it.

    Attributes:
        id: unique for each start of a worker.
        uri: where clients reach it.
        state: alive, suspect, draining or dead.
        services: what it serves, e.g. `("gateway", "worker")`.
        metadata: free text to text (zone, pid, version).
    """

    id: str
    uri: str
    state: MemberState
    services: tuple[str, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LiveRelease:
    """A release that a deployment points at (or that members are asked to prepare)."""

    number: int
    manifest_digest: str
    manifest: Manifest
    promoted: float | None  # seconds since 1970; None while only prepared


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A deployment with its release resolved."""

    name: str
    traffic: int
    release: LiveRelease


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as requests need it.

    Attributes:
        disabled: identities of keys under a `disable` hold: they are passed over, their fallback answers.
        deployments: live slots, by name; empty while nothing is live.
        wanted: releases that members must map now: the live ones and those being prepared for promotion.
        unread: whether a live release is missing from `deployments` because its manifest cannot be read now.
        replicas, pool: how many seats of which pool are to hold each shard.
        seats: by count of shards, which seats hold each shard, in the order in which they are to be asked; empty where
            every worker holds everything.
        moves: by count of shards and shard, who of those seats comes and who goes.
    """

    name: str
    schema: KeySchema
    signature: Signature
    disabled: frozenset[bytes]
    deployments: Mapping[str, DeploymentView]
    wanted: tuple[LiveRelease, ...]
    auto_release: bool
    suspended: bool
    unread: bool = False
    replicas: int = DEFAULT_REPLICAS
    pool: str = DEFAULT_POOL
    seats: Mapping[int, Seats] = field(default_factory=dict)
    moves: Mapping[int, Mapping[int, Move]] = field(default_factory=dict)

    def continues(self, before: "GroupView") -> bool:
        """Whether this is the group that was there before, as far as it shows, and not a later one of its name."""
        return self.schema == before.schema and self.signature == before.signature


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one revision.

    Attributes:
        expires: seconds since 1970 at which the picture changes by time alone (the earliest end of a `disable` hold);
            None if it does not.
        assignments: what is stored of each pool's seats, by pool.
        unreadable: names of groups that are not shown because what the registry says of them makes no sense.
    """

    revision: Revision
    groups: Mapping[str, GroupView]
    members: tuple[Member, ...]
    expires: float | None = None
    assignments: Mapping[str, PoolSeats] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()

    def same_picture(self, other: "Snapshot") -> bool:
        """Whether both show the same, whatever their revisions; quick where they share objects."""
        return (
            self.members == other.members
            and self.groups == other.groups
            and self.assignments == other.assignments
            and self.unreadable == other.unreadable
        )
