"""Lookup: where a partition is served, for operators and for clients that call workers themselves.

A pure function over a snapshot: no SQL, no network, so asking is as cheap as predicting and always agrees with what
the same process would do with a request.
"""

from dataclasses import dataclass
from typing import Final

from discovery.errors import NothingLiveError, SnapshotUnavailableError
from discovery.placement import Placement, placement
from discovery.snapshot import DeploymentView, GroupView, Member, Revision, Snapshot
from registry.errors import GroupNotFoundError
from registry.keys import PartitionKey, shard_of

TTL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where one full key is served.

    Attributes:
        slot, shard: where the key hashes to, by the live release's count of shards.
        placement: all members with the reason for their order; `members` are those to ask, preferred first.
        ttl: seconds for which a client may keep this answer without asking again.
    """

    group: str
    key: PartitionKey
    slot: int
    shard: int
    deployment: str
    release: int
    placement: Placement
    revision: Revision
    ttl: float

    @property
    def members(self) -> tuple[Member, ...]:
        """The members to ask, preferred first."""
        return self.placement.members


def group_view(snapshot: Snapshot, group: str) -> GroupView:
    """A group of the snapshot.

    Raises:
        GroupNotFoundError: if there is none of this name.
        SnapshotUnavailableError: if there is one, but what the registry says of it makes no sense.
    """
    view = snapshot.groups.get(group)
    if view is None:
        if group in snapshot.unreadable:
            raise SnapshotUnavailableError(f"what the registry says of {group!r} cannot be read; see the log")
        raise GroupNotFoundError(f"there is no group {group!r}", field="group")
    return view


def live_deployment(view: GroupView) -> DeploymentView:
    """The deployment that answers for a group.

    Raises:
        NothingLiveError: if none points at a release.
        SnapshotUnavailableError: if one does, but what the release is cannot be read now.
    """
    for deployment in view.deployments.values():
        return deployment
    if view.unread:
        raise SnapshotUnavailableError(f"the live release of {view.name} cannot be read now; try again in a moment")
    soon = "a model that was registered by itself goes live in a moment, an import when its release is promoted"
    raise NothingLiveError(f"{view.name} has no live release yet; {soon}", field="group")


def lookup(snapshot: Snapshot, group: str, values: tuple[str, ...], ttl: float = TTL_SECONDS) -> Lookup:
    """Find a full key, given as its checked text values in field order (see `KeySchema.parse`).

    Raises:
        GroupNotFoundError, SnapshotUnavailableError: as `group_view`.
        NothingLiveError, SnapshotUnavailableError: as `live_deployment`.
    """
    view = group_view(snapshot, group)
    deployment = live_deployment(view)
    key = view.schema.key(values)
    slot = view.schema.slot(key)
    shard = shard_of(slot, deployment.release.manifest.shards)
    return Lookup(
        group=group,
        key=key,
        slot=slot,
        shard=shard,
        deployment=deployment.name,
        release=deployment.release.number,
        placement=placement(snapshot, view, deployment.release, shard),
        revision=snapshot.revision,
        ttl=ttl,
    )
