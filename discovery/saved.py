"""The last snapshot on this machine's disk, for a process that starts while everything else is away.

One file: the SHA-256 of what follows, then JSON. Whoever shows a new snapshot writes it under another name and renames
it; a file that is cut short or of another version is as good as none. Manifests are named by digest, as everywhere.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from discovery.seats import GroupSeats, group_json, read_group_seats
from discovery.snapshot import DeploymentView, GroupView, LiveRelease, Member, Revision, Snapshot
from registry.manifest import Manifest
from registry.records import DEFAULT_POOL, DEFAULT_REPLICAS
from registry.rows import read_definition, write_definition

log = logging.getLogger("manymodels.discovery")

FORMAT: Final = 1
PAUSE_SECONDS: Final = 1.0  # between two writes: a snapshot that was missed is written with the next look

FindManifest = Callable[[str], Manifest | None]


def written(snapshot: Snapshot) -> bytes:
    """A snapshot as the bytes of a file."""
    body = {
        "format": FORMAT,
        "revision": [snapshot.revision.epoch, snapshot.revision.number],
        "members": [_member_json(member) for member in snapshot.members],
        "groups": [_group_json(view) for view in snapshot.groups.values()],
    }
    text = orjson.dumps(body)
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def read(data: bytes, manifest: FindManifest) -> Snapshot | None:
    """The snapshot of a file's bytes, None if they are no whole file of this version.

    A release whose manifest `manifest` cannot find is left out, as where it is read from the registry.
    """
    digest, _, text = data.partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        return None
    body = orjson.loads(text)
    if body["format"] != FORMAT:
        return None
    views = [_group(group, manifest) for group in body["groups"]]
    members = tuple(
        Member(name, uri, state, tuple(services), metadata) for name, uri, state, services, metadata in body["members"]
    )
    return Snapshot(Revision(*body["revision"]), {view.name: view for view in views}, members)


class SavedSnapshot:
    """The file. Any number of processes of a machine may share it; in each one thread uses it."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells monotonic seconds."""
        self._path = path
        self._clock = clock
        self._kept: Snapshot | None = None
        self._next = -PAUSE_SECONDS

    def keep(self, snapshot: Snapshot, *, at_once: bool = False) -> None:
        """Write a snapshot if it is news and the last write is some time ago; a disk that fails is logged."""
        now = self._clock()
        if snapshot is self._kept or (now < self._next and not at_once):
            return
        self._next = now + PAUSE_SECONDS
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            beside.write_bytes(written(snapshot))
            beside.replace(self._path)
        except OSError as error:
            log.warning("the snapshot could not be kept on the disk: %s", error)
            with suppress(OSError):
                beside.unlink()
        self._kept = snapshot

    def load(self, manifest: FindManifest) -> Snapshot | None:
        """The snapshot that was kept last; None if there is none that can be read."""
        try:
            return read(self._path.read_bytes(), manifest)
        except FileNotFoundError:
            return None
        except Exception:
            log.exception("the snapshot on the disk cannot be read")
            return None


def _member_json(member: Member) -> list[Any]:
    return [member.id, member.uri, member.state, list(member.services), dict(member.metadata)]


def _group_json(view: GroupView) -> dict[str, Any]:
    releases = {release.number: release for release in view.wanted}
    releases |= {one.release.number: one.release for one in view.deployments.values()}
    return {
        "name": view.name,
        "definition": write_definition(view.schema, view.signature),
        "disabled": sorted(key.hex() for key in view.disabled),
        "releases": [[one.number, one.manifest_digest, one.promoted] for one in releases.values()],
        "deployments": [[one.name, one.traffic, one.release.number] for one in view.deployments.values()],
        "auto_release": view.auto_release,
        "suspended": view.suspended,
        "replicas": view.replicas,
        "pool": view.pool,
        "seats": group_json(GroupSeats(view.seats, view.moves)),
    }


def _group(body: Mapping[str, Any], manifest: FindManifest) -> GroupView:
    schema, signature = read_definition(body["definition"])
    releases = {}
    for number, digest, promoted in body["releases"]:
        found = manifest(digest)
        if found is not None:
            releases[number] = LiveRelease(number, digest, found, promoted)
    deployments = {
        name: DeploymentView(name, traffic, releases[number])
        for name, traffic, number in body["deployments"]
        if number in releases
    }
    seats = read_group_seats(body.get("seats", {}))  # an earlier version wrote none: everyone held everything
    return GroupView(
        name=body["name"],
        schema=schema,
        signature=signature,
        disabled=frozenset(bytes.fromhex(key) for key in body["disabled"]),
        deployments=deployments,
        wanted=tuple(releases[number] for number in sorted(releases)),
        auto_release=body["auto_release"],
        suspended=body["suspended"],
        unread=len(deployments) < len(body["deployments"]),
        replicas=body.get("replicas", DEFAULT_REPLICAS),
        pool=body.get("pool", DEFAULT_POOL),
        seats=seats.shards,
        moves=seats.moves,
    )
