"""Building a snapshot: one read transaction of the registry, one look at the members, and the manifests they name.

What did not change is carried over from the previous snapshot object by object, so a change of one group costs that
group only, readers may compare by identity, and manifests (immutable, named by digest) are read and parsed once.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from discovery.membership import Membership
from discovery.seats import GroupSeats, PoolSeats, find_seats, read_pool
from discovery.snapshot import DeploymentView, GroupView, LiveRelease, Revision, Snapshot
from registry.artifacts.frames import verified
from registry.artifacts.store import ArtifactStore
from registry.assignments import assignment_body, assignment_numbers
from registry.database import Database
from registry.deployments import DeploymentSet, get_deployments, wanted
from registry.errors import ArtifactDamagedError, ArtifactMissingError, StoreAwayError
from registry.groups import each_group
from registry.holds import list_holds
from registry.manifest import Manifest, read_manifest
from registry.records import Group, Hold
from registry.releases import get_release
from registry.revision import read_revision

log = logging.getLogger("manymodels.discovery")


@dataclass(frozen=True, slots=True)
class _GroupRows:
    """What the registry says of one group, read in one transaction with all others."""

    group: Group
    deployments: DeploymentSet
    seats: GroupSeats
    manifests: Mapping[int, str]  # release number -> manifest digest, of all releases to be mapped
    disabled: tuple[Hold, ...]


def join_revisions(registry: tuple[str, int], membership: tuple[str, int]) -> Revision:
    """One revision of the registry's and the membership's; see `Revision`."""
    return Revision(registry[0] + membership[0], registry[1] + membership[1])


def read_snapshot(
    database: Database, store: ArtifactStore, membership: Membership, previous: Snapshot | None, now: float
) -> Snapshot:
    """Read everything at one moment.

    The registry is read in one transaction, so the picture is never a mixture. Where time alone changed the picture
    (a member fell silent, a hold ended) the revision is the previous one: whoever publishes it counts that change.
    A release whose manifest cannot be read is left out of what members map, and logged; where it is live, the group
    goes on with its previous deployments if there are any. A group of which any row makes no sense is logged too, and
    stays whole as it was, or is `unreadable`; the others move on.

    `previous` is the snapshot to carry unchanged parts over from; `now` is seconds since 1970, against which holds and
    wants expire.

    Raises:
        DatabaseBusyError: if either database is away.
    """
    changes = membership.changes()  # before the members: a change in between shows as a greater number next time
    members = membership.members()
    with database.read() as connection:
        revision = join_revisions(read_revision(connection), changes)
        assignments = _read_assignments(connection, previous.assignments if previous else {})
        rows, damaged = each_group(connection, lambda group: _read_group(connection, group, assignments, now))
    manifests = Manifests(store, previous)
    before = previous.groups if previous else {}
    groups = {row.group.name: _view(row, manifests, before.get(row.group.name)) for row in rows}
    groups |= {name: before[name] for name in damaged if name in before}
    ends = [hold.until for row in rows for hold in row.disabled if hold.until is not None]
    unreadable = frozenset(damaged).difference(before)
    return Snapshot(
        revision, groups, members, expires=min(ends, default=None), assignments=assignments, unreadable=unreadable
    )


def _read_assignments(connection: Connection, previous: Mapping[str, PoolSeats]) -> Mapping[str, PoolSeats]:
    """What is stored of each pool, parsed only where its number is new."""
    found = {}
    for pool, number in assignment_numbers(connection).items():
        before = previous.get(pool)
        if before is None or before.number != number:
            before = read_pool(number, assignment_body(connection, pool), before)
        found[pool] = before
    return found


def _read_group(connection: Connection, group: Group, assignments: Mapping[str, PoolSeats], now: float) -> _GroupRows:
    deployments = get_deployments(connection, group)
    live = {deployment.release for deployment in deployments.deployments.values()}
    manifests = {}
    for number in sorted(live | set(wanted(connection, group, now))):
        digest = get_release(connection, group, number).manifest
        if digest is not None:
            manifests[number] = digest
    holds = list_holds(connection, group, now)
    disabled = tuple(hold for hold in holds if hold.action == "disable")
    return _GroupRows(group, deployments, find_seats(assignments, group.name, group.pool), manifests, disabled)


class Manifests:
    """Manifests by digest for the length of one reading: the previous snapshot's, and what the store adds."""

    def __init__(self, store: ArtifactStore, previous: Snapshot | None) -> None:
        self._store = store
        views = previous.groups.values() if previous else ()
        self._known = {live.manifest_digest: live.manifest for view in views for live in _releases(view)}

    def get(self, digest: str) -> Manifest | None:
        """The manifest, or None (logged) if the store does not hold it whole."""
        if digest not in self._known:
            try:
                self._known[digest] = read_manifest(verified(self._store.path(digest).read_bytes(), digest))
            except (ArtifactMissingError, ArtifactDamagedError, StoreAwayError, OSError):
                log.exception("manifest %s cannot be read", digest)
                return None
        return self._known[digest]


def _releases(view: GroupView) -> Iterable[LiveRelease]:
    yield from view.wanted
    for deployment in view.deployments.values():
        yield deployment.release


def _view(row: _GroupRows, manifests: Manifests, previous: GroupView | None) -> GroupView:
    releases = {}
    for number, digest in row.manifests.items():
        manifest = manifests.get(digest)
        if manifest is not None:
            promoted = _promoted(row.deployments, number)
            releases[number] = LiveRelease(number, digest, manifest, promoted)
    deployments = {
        name: DeploymentView(name, deployment.traffic, releases[deployment.release])
        for name, deployment in row.deployments.deployments.items()
        if deployment.release in releases
    }
    view = GroupView(
        name=row.group.name,
        schema=row.group.schema,
        signature=row.group.signature,
        disabled=frozenset(hold.key.id for hold in row.disabled),
        deployments=deployments,
        wanted=tuple(releases[number] for number in sorted(releases)),
        auto_release=row.group.auto_release,
        suspended=row.group.suspended,
        unread=len(deployments) < len(row.deployments.deployments),
        replicas=row.group.replicas,
        pool=row.group.pool,
        seats=row.seats.shards,
        moves=row.seats.moves,
    )
    if previous is None:
        return view
    if view.unread and view.continues(previous):
        view = _as_before(view, previous)
    return previous if previous == view else view


def _as_before(view: GroupView, previous: GroupView) -> GroupView:
    """The group with the deployments it had: those that the registry names now cannot be read."""
    releases = {release.number: release for release in view.wanted}
    releases |= {deployment.release.number: deployment.release for deployment in previous.deployments.values()}
    wanted = tuple(releases[number] for number in sorted(releases))
    return replace(view, deployments=previous.deployments, wanted=wanted)


def _promoted(deployments: DeploymentSet, number: int) -> float | None:
    """When a release went live, of the deployments that point at it; None for one that is only wanted."""
    names = [name for name, deployment in deployments.deployments.items() if deployment.release == number]
    return min((deployments.promoted[name] for name in names), default=None)
