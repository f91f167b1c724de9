"""A small house on disk: real databases and a real artifact store, releases whose segments are a few bytes."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from discovery.leases import SqlMembership, migrate_leases
from discovery.snapshot import Member, Snapshot
from registry.artifacts.folder import FolderStore
from registry.database import Database, migrate
from registry.groups import create_group
from registry.home import Home
from registry.keys import KeySchema
from registry.manifest import Manifest, SegmentRef
from registry.records import Release
from registry.releases import begin_release, finish_release
from tests.support.clocks import ManualClock
from tests.support.views import signature


class House:
    """Owns a home folder with one registry and one lease file; `now` and `clock` are manual."""

    def __init__(self, root: Path, *, busy_seconds: float = 5.0) -> None:
        self.home = Home(root)
        self.home.prepare()
        migrate(self.home.registry_url)
        migrate_leases(self.home.leases_url)
        self.now = ManualClock(1_000_000.0)
        self.clock = ManualClock()
        self.database = Database(self.home.registry_url, busy_seconds=busy_seconds)
        self.store = FolderStore(self.home.artifacts)
        self.memberships: list[SqlMembership] = []
        self.membership = self.open_membership()

    def open_membership(self) -> SqlMembership:
        """Another reader of the leases, as another process has one."""
        self.memberships.append(SqlMembership(self.home.leases_url, clock=self.clock))
        return self.memberships[-1]

    def close(self) -> None:
        self.database.close()
        for membership in self.memberships:
            membership.close()

    def group(self, name: str = "oj") -> None:
        with self.database.write() as connection:
            schema = KeySchema(("store", "brand"), fallback=(("brand",), ()))
            create_group(connection, name, schema, signature(), auto_release=True, now=self.now())

    def release(self, name: str = "oj", *, blocked: bool = False, shards: int = 1) -> Release:
        """A finished release of one segment, which lies in the first of so many shards."""
        with self.database.write() as connection:
            begun = begin_release(connection, name, base=None, named=None, gates={}, now=self.now())
        segment = self.store.put([_segment(name, begun.number)])
        fields = ("store", "brand")
        segments = (SegmentRef(0, segment.digest, segment.size, 1),)
        manifest = Manifest(name, begun.number, shards, fields, fields, signature(), segments)
        stored = self.store.put([manifest.to_bytes()])
        with self.database.write() as connection:
            return finish_release(
                connection,
                name,
                begun.number,
                manifest=stored.digest,
                models=1,
                size=segment.size,
                report={},
                blocked=blocked,
                now=self.now(),
            )

    def damage(self, digest: str) -> None:
        """Cut an object short on the disk, behind the store's back."""
        path = self.store.path(digest)
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1])


def _segment(name: str, number: int) -> bytes:
    return f"segment of {name} {number}".encode()


def segment_digest(name: str, number: int) -> str:
    """Digest of the one segment of a release made here."""
    return hashlib.sha256(_segment(name, number)).hexdigest()


def worker(name: str, **changes: object) -> Member:
    """A member that serves."""
    given: dict[str, object] = {"id": name, "uri": f"http://{name}", "state": "alive", "services": ("worker",)}
    return Member(**(given | {"metadata": {}} | changes))  # type: ignore[arg-type]


class Holding:
    """What is ready after a snapshot was adopted."""

    def __init__(self, ready: set[tuple[str, int]]) -> None:
        self.ready = ready


class Adopter:
    """Stands where a worker's holdings stand: maps everything wanted, but for what it is told it cannot."""

    def __init__(self) -> None:
        self.seen: list[Snapshot] = []
        self.broken: set[tuple[str, int]] = set()
        self.before: Callable[[Snapshot], None] = lambda _: None
        self.lock = threading.Lock()

    def __call__(self, snapshot: Snapshot) -> Holding:
        with self.lock:
            self.seen.append(snapshot)
        self.before(snapshot)
        wanted = {(view.name, release.number) for view in snapshot.groups.values() for release in view.wanted}
        return Holding(wanted - self.broken)
