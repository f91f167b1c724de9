"""gc: retire old releases, drop the versions nothing holds, and remove the objects and uploads that nothing names.

An object is removed only when it is older than a day and no version, import, kept release or segment list names it.
What is being written right now is young, and writing it again makes it young again; so a sweep may run beside imports
and builds. If a manifest cannot be read, nobody knows what it names, and no object is removed at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from registry.artifacts.frames import verified
from registry.artifacts.store import ArtifactStore, StoredObject
from registry.database import Database
from registry.errors import ArtifactDamagedError, ArtifactMissingError, GroupNotFoundError
from registry.failpoints import failpoint
from registry.groups import list_groups
from registry.manifest import read_manifest
from registry.records import Group
from registry.releases import list_releases
from registry.retention import (
    bundle_uses,
    drop_versions,
    kept_releases,
    purge_groups,
    retire_releases,
    staged_in_use,
    superseded,
)
from registry.tasks import prune

FAILPOINTS: Final = (
    "gc.groups.purged",
    "gc.releases.retired",
    "gc.versions.dropped",
    "gc.object.removed",
    "gc.upload.removed",
)
SPARED_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep would remove, or has removed.

    Attributes:
        retired: group -> numbers of releases whose contents are given up.
        versions: group -> how many model versions go; groups that lose none are left out.
        objects: objects of the artifact store.
        staged: names of uploads, and of objects half-written when a process died.
        unreadable: digests of manifests that could not be read; because of them no object is removed.
    """

    retired: Mapping[str, tuple[int, ...]]
    versions: Mapping[str, int]
    objects: tuple[StoredObject, ...]
    staged: tuple[str, ...]
    unreadable: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all objects together."""
        return sum(found.size for found in self.objects)

    def to_json(self) -> dict[str, Any]:
        """The sweep as a report, every name in it."""
        return {
            "retired": {group: list(numbers) for group, numbers in self.retired.items()},
            "versions": dict(self.versions),
            "objects": [found.digest for found in self.objects],
            "staged": list(self.staged),
            "bytes": self.size,
            "unreadable": list(self.unreadable),
        }


def plan_sweep(db: Database, store: ArtifactStore, *, now: float) -> Sweep:
    """Say what `apply_sweep` would remove; nothing changes."""
    retired: dict[str, tuple[int, ...]] = {}
    versions: dict[str, int] = {}
    manifests: set[str] = set()
    with db.read() as conn:
        uses = bundle_uses(conn)
        for group in list_groups(conn):
            retiring, kept = _split(conn, group)
            retired |= {group.name: retiring} if retiring else {}
            manifests |= kept
            freed = _superseded_bundles(conn, group)
            versions |= {group.name: freed.versions} if freed.versions else {}
            for bundle in freed.bundles:
                uses[bundle] -= 1
        in_use = staged_in_use(conn)
    named = Named(store, manifests, {bundle for bundle, count in uses.items() if count > 0})
    return Sweep(
        retired=retired,
        versions=versions,
        objects=tuple(named.unnamed(now - SPARED_SECONDS)),
        staged=tuple(_stale_uploads(store, in_use, now - SPARED_SECONDS)),
        unreadable=tuple(sorted(named.unreadable)),
    )


def apply_sweep(db: Database, store: ArtifactStore, *, now: float) -> Sweep:
    """Remove what nothing needs and answer what went. Safe beside other work, and after a crash of another sweep."""
    _purge(db)
    with db.read() as conn:
        groups = list_groups(conn)
    retired = {group.name: numbers for group in groups if (numbers := _retire(db, group))}
    failpoint("gc.releases.retired")
    versions = {group.name: count for group in groups if (count := _drop(db, group))}
    with db.write() as conn:
        prune(conn, now - SPARED_SECONDS)
    failpoint("gc.versions.dropped")
    before = now - SPARED_SECONDS
    named = _named(db, store)
    with db.read() as conn:
        in_use = staged_in_use(conn)
    return Sweep(
        retired=retired,
        versions=versions,
        objects=tuple(found for found in named.unnamed(before) if _remove(store, found, before)),
        staged=tuple(_unstage(store, name) for name in _stale_uploads(store, in_use, before)),
        unreadable=tuple(sorted(named.unreadable)),
    )


class Named:
    """Every digest that rows, manifests and their segments name, at one moment."""

    def __init__(self, store: ArtifactStore, manifests: set[str], bundles: set[str]) -> None:
        self._store = store
        self.digests = manifests | bundles
        self.unreadable: set[str] = set()
        for digest in manifests:
            try:
                manifest = read_manifest(verified(store.path(digest).read_bytes(), digest))
            except (ArtifactMissingError, ArtifactDamagedError):
                self.unreadable.add(digest)
            else:
                self.digests |= {ref.digest for ref in manifest.segments}

    def unnamed(self, before: float) -> list[StoredObject]:
        """Objects that nothing names, last written before a moment; none while a manifest cannot be read."""
        if self.unreadable:
            return []
        return sorted(
            (found for found in self._store.objects() if found.digest not in self.digests and found.modified < before),
            key=lambda found: found.digest,
        )


@dataclass(frozen=True, slots=True)
class _Freed:
    versions: int
    bundles: list[str]


def _split(conn: Connection, group: Group) -> tuple[tuple[int, ...], set[str]]:
    """The releases to retire, and the manifests of those that stay. A failed one has nothing to give up."""
    kept = set(kept_releases(conn, group))
    built = [release for release in list_releases(conn, group) if release.state in ("ready", "blocked")]
    retiring = tuple(sorted(release.number for release in built if release.number not in kept))
    return retiring, {release.manifest for release in built if release.number in kept and release.manifest}


def _superseded_bundles(conn: Connection, group: Group) -> _Freed:
    versions = 0
    bundles: list[str] = []
    after: int | None = 0
    while after is not None:
        found = superseded(conn, group, after=after)
        versions += len(found.sequences)
        bundles += found.bundles
        after = found.after
    return _Freed(versions, bundles)


def _purge(db: Database) -> None:
    more = True
    while more:
        with db.write() as conn:
            more = purge_groups(conn)
        failpoint("gc.groups.purged")


def _retire(db: Database, group: Group) -> tuple[int, ...]:
    try:
        with db.write() as conn:
            retiring, _ = _split(conn, group)
            retire_releases(conn, group, retiring)
    except GroupNotFoundError:  # deleted meanwhile; the next sweep purges it
        return ()
    return retiring


def _drop(db: Database, group: Group) -> int:
    dropped = 0
    after: int | None = 0
    while after is not None:
        try:
            with db.write() as conn:
                found = drop_versions(conn, group, after=after)
        except GroupNotFoundError:
            break
        dropped += found.versions
        after = found.after
    return dropped


def _named(db: Database, store: ArtifactStore) -> Named:
    with db.read() as conn:
        bundles = set(bundle_uses(conn))
        manifests = {digest for group in list_groups(conn) for digest in _split(conn, group)[1]}
    return Named(store, manifests, bundles)


def _stale_uploads(store: ArtifactStore, in_use: set[str], before: float) -> list[str]:
    return sorted(name for name, modified in store.staged_names() if modified < before and name not in in_use)


def _remove(store: ArtifactStore, found: StoredObject, before: float) -> bool:
    removed = store.delete(found.digest, unless_since=before)
    failpoint("gc.object.removed")
    return removed


def _unstage(store: ArtifactStore, name: str) -> str:
    store.unstage(name)
    failpoint("gc.upload.removed")
    return name
