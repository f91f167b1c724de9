"""A registry and an artifact store with one group, to register artifacts of any bytes in and build releases of."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.artifacts.bundle import write_bundle
from registry.artifacts.folder import FolderStore
from registry.database import Database, migrate, sqlite_url
from registry.deployments import flip
from registry.groups import create_group, get_group
from registry.keys import KeySchema, PartitionKey, key_id
from registry.manifest import Manifest, read_manifest
from registry.records import BundleSlice, Deployment, ModelMeta, NewVersion, Release, Version
from registry.releases import begin_release, get_release
from registry.signature import InputSpec, OutputSpec, Signature
from registry.versions import add_versions, delete_key
from workers.builder.release_build import build_release
from workers.segments.reader import Segment

GROUP = "oj-sales"
SCHEMA = KeySchema(("store", "brand"), fallback=(("brand",), ()))
SIGNATURE = Signature((InputSpec("price"),), (OutputSpec("sales"),))


def raws(count: int, what: str = "model") -> dict[str, bytes]:
    return {f"store={number}/brand=b": f"{what} {number}".encode() for number in range(count)}


def heavy(count: int, seed: int = 0) -> dict[str, bytes]:
    """Artifacts of half a megabyte that do not compress: 40 of them need two shards."""
    return {f"store={n}/brand=b": random.Random(f"{seed}/{n}").randbytes(500_000) for n in range(count)}


def expected(models: dict[str, bytes], version: int = 1) -> dict[str, tuple[int, bytes]]:
    return {key: (version, raw) for key, raw in models.items()}


class Fleet:
    """One group; `now` is the time every call is made at, until a test moves it."""

    def __init__(self, home: Path, schema: KeySchema = SCHEMA) -> None:
        url = sqlite_url(home / "registry.db")
        migrate(url)
        self.home = home
        self.now = 1_800_000_000.0
        self.db = Database(url, durable=False)
        self.store = FolderStore(home / "artifacts")
        with self.db.write() as conn:
            create_group(conn, GROUP, schema, SIGNATURE, auto_release=False, now=self.now)
            self.group = get_group(conn, GROUP)

    @classmethod
    def reopened(cls, home: Path) -> "Fleet":
        """The fleet of a home that another process made."""
        fleet = cls.__new__(cls)
        fleet.home, fleet.now = home, 1_800_000_000.0
        fleet.db = Database(sqlite_url(home / "registry.db"), durable=False)
        fleet.store = FolderStore(home / "artifacts")
        with fleet.db.read() as conn:
            fleet.group = get_group(conn, GROUP)
        return fleet

    def key(self, text: str) -> PartitionKey:
        return self.group.schema.parse_text(text)

    def register(self, models: Mapping[str, bytes], **provenance: str) -> list[Version]:
        """One version a key, all in one bundle."""
        places = write_bundle(self.store, models.values())
        return self.name(
            [
                self.version(text, raw, place, provenance)
                for (text, raw), place in zip(models.items(), places, strict=True)
            ]
        )

    def version(self, text: str, raw: bytes, place: BundleSlice, provenance: Mapping[str, str]) -> NewVersion:
        return NewVersion(
            key=self.key(text),
            digest=hashlib.sha256(raw).hexdigest(),
            runtime="lightgbm",
            size=len(raw),
            heap=1024 + len(raw),
            place=place,
            meta=ModelMeta(provenance=provenance),
        )

    def name(self, versions: Sequence[NewVersion]) -> list[Version]:
        """Add versions whose bytes are stored (or are not)."""
        with self.db.write() as conn:
            return [added.version for added in add_versions(conn, self.group, versions, self.now)]

    def delete(self, text: str) -> None:
        with self.db.write() as conn:
            delete_key(conn, self.group, self.key(text), self.now)

    def begin(
        self,
        base: int | None = None,
        named: Sequence[tuple[str, int]] | None = None,
        gates: Mapping[str, int] | None = None,
    ) -> int:
        chosen = None if named is None else [(self.key(text), number) for text, number in named]
        with self.db.write() as conn:
            release = begin_release(conn, self.group, base=base, named=chosen, gates=gates or {}, now=self.now)
        return release.number

    def build(self, number: int) -> Release:
        return build_release(self.db, self.store, GROUP, number, clock=lambda: self.now)

    def release(
        self,
        base: int | None = None,
        named: Sequence[tuple[str, int]] | None = None,
        gates: Mapping[str, int] | None = None,
    ) -> Release:
        return self.build(self.begin(base, named, gates))

    def promote(self, number: int) -> None:
        with self.db.write() as conn:
            flip(
                conn,
                self.group,
                {"blue": Deployment("blue", number, 100)},
                if_match=None,
                author="test",
                now=self.now,
            )

    def manifest(self, number: int) -> Manifest:
        with self.db.read() as conn:
            release = get_release(conn, self.group, number)
        assert release.manifest is not None
        return read_manifest(self.store.path(release.manifest).read_bytes())

    def segments(self, number: int) -> list[Segment]:
        return [Segment.open(self.store.path(ref.digest), self.store) for ref in self.manifest(number).segments]

    def contents(self, number: int) -> dict[str, tuple[int, bytes]]:
        """Version and bytes of every model of a release, by key; each found as a worker finds it."""
        found = {}
        for segment in self.segments(number):
            for row in range(len(segment)):
                entry = segment.entry(row)
                assert segment.find(key_id(entry.key)) == row
                found[entry.key] = (entry.version, segment.read(row))
        return found

    def report(self, number: int) -> Mapping[str, Any]:
        with self.db.read() as conn:
            return get_release(conn, self.group, number).report
