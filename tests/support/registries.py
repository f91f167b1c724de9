"""A registry in a real database, with short words for what tests do to it."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from registry.database import Database, migrate, sqlite_url
from registry.deployments import Flip, flip, get_deployments
from registry.groups import create_group, get_group
from registry.keys import KeySchema, PartitionKey
from registry.records import BundleSlice, Deployment, Group, ModelMeta, NewVersion, Release, Version
from registry.releases import begin_release, changes, finish_release
from registry.signature import InputSpec, OutputSpec, Signature
from registry.versions import AddedVersion, add_versions, delete_key
from registry.withdrawal import chain_of, read_bases

NOW = 1_780_000_000.0
SCHEMA = KeySchema(("store", "brand"), fallback=(("brand",), ()))
SIGNATURE = Signature((InputSpec("price"), InputSpec("feat", "int64")), (OutputSpec("sales"),))


def digest(what: str) -> str:
    """64 hex digits that stand for some bytes."""
    return hashlib.sha256(what.encode()).hexdigest()


def at_level(schema: KeySchema, values: Sequence[str], level: int) -> PartitionKey:
    """The (partial) key of a full key's values at a fallback level."""
    return PartitionKey(tuple((schema.fields[i], values[i]) for i in schema.levels[level]))


def artifact(key: PartitionKey, what: str, **meta: Any) -> NewVersion:
    """A proved artifact; the same `what` has the same digest."""
    place = BundleSlice(digest(f"bundle of {what}"), 7, 100)
    return NewVersion(key, digest(what), "lightgbm", 1000, 5000, place, ModelMeta(**meta))


@cache
def _migrated() -> Path:
    """One migrated database to copy: migrating takes longer than most tests."""
    path = Path(mkdtemp()) / "registry.db"
    migrate(sqlite_url(path))
    return path


class Registry:
    """A database with one group, `oj`, of stores and brands; every call is a transaction."""

    def __init__(self, folder: Path, *, busy_seconds: float = 5.0, url: str = "") -> None:
        """In a file of the folder, or in the migrated and empty database of the URL."""
        self.path = folder / "registry.db"
        if not url:
            shutil.copy(_migrated(), self.path)
        self.database = Database(url or sqlite_url(self.path), busy_seconds=busy_seconds)
        with self.database.write() as conn:
            self.group = create_group(conn, "oj", SCHEMA, SIGNATURE, auto_release=True, now=NOW)

    def close(self) -> None:
        self.database.close()

    def key(self, text: str) -> PartitionKey:
        return SCHEMA.parse_text(text)

    def now_group(self) -> Group:
        with self.database.read() as conn:
            return get_group(conn, "oj")

    def add(self, text: str, what: str, **meta: Any) -> AddedVersion:
        with self.database.write() as conn:
            return add_versions(conn, self.group, [artifact(self.key(text), what, **meta)], NOW)[0]

    def add_all(self, models: Mapping[str, str]) -> list[AddedVersion]:
        with self.database.write() as conn:
            return add_versions(conn, self.group, [artifact(self.key(t), what) for t, what in models.items()], NOW)

    def delete(self, text: str) -> Version:
        with self.database.write() as conn:
            return delete_key(conn, self.group, self.key(text), NOW)

    def begin(
        self, named: Sequence[tuple[str, int]] | None = None, base: int | None = None, now: float = NOW
    ) -> Release:
        pairs = None if named is None else [(self.key(text), number) for text, number in named]
        with self.database.write() as conn:
            return begin_release(conn, self.group, base=base, named=pairs, gates={}, now=now)

    def finish(self, number: int, *, blocked: bool = False, failed: Sequence[str] = ()) -> Release:
        with self.database.write() as conn:
            return finish_release(
                conn,
                self.group,
                number,
                manifest=digest(f"manifest {number}"),
                models=1,
                size=10,
                report={"added": 1},
                blocked=blocked,
                now=NOW,
                failed=[self.key(text) for text in failed],
            )

    def release(self, named: Sequence[tuple[str, int]] | None = None, base: int | None = None) -> int:
        """Begin and finish a release."""
        return self.finish(self.begin(named, base).number).number

    def flip(self, number: int, now: float = NOW, if_match: str | None = None) -> Flip:
        with self.database.write() as conn:
            blue = {"blue": Deployment("blue", number, 100)}
            return flip(conn, self.group, blue, if_match=if_match, author="ann", now=now)

    def live(self) -> int | None:
        with self.database.read() as conn:
            found = get_deployments(conn, self.group).deployments
        return found["blue"].release if found else None

    def changed(self, number: int) -> dict[str, int]:
        """Key text to version number of what a release changes."""
        with self.database.read() as conn:
            return {c.key.text: c.version.number for c in changes(conn, self.group, number, -1, 4096)}

    def held(self, number: int) -> dict[str, int]:
        """Key text to version number of what a release holds, tombstones left out."""
        held: dict[str, int] = {}
        with self.database.read() as conn:
            chain = chain_of(read_bases(conn, self.group.id), number)
            for member in reversed(chain):
                for change in changes(conn, self.group, member, -1, 4096):
                    held[change.key.text] = change.version.number if not change.version.tombstone else 0
        return {text: version for text, version in held.items() if version}
