"""The snapshot: discovery's immutable picture of the whole house at one revision.

A request fixes one snapshot and answers from it whatever changes meanwhile. Snapshots are built off the request path
and swapped by one assignment; nothing in them is ever mutated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from registry.keys import KeySchema
from registry.manifest import Manifest
from registry.signature import Signature

MemberState = Literal["alive", "suspect", "draining", "dead"]


@dataclass(frozen=True, slots=True)
class Revision:
    """`<epoch>-<n>`: opaque to clients; n grows with content, the epoch changes with the database."""

    epoch: str
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"


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
    """

    name: str
    schema: KeySchema
    signature: Signature
    disabled: frozenset[bytes]
    deployments: Mapping[str, DeploymentView]
    wanted: tuple[LiveRelease, ...]
    auto_release: bool
    suspended: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one revision."""

    revision: Revision
    groups: Mapping[str, GroupView]
    members: tuple[Member, ...]
