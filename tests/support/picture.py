"""What a home holds as one comparable value, and whether its files are whole and all needed."""

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from manymodels import Client
from registry.artifacts.bundle import read_slice
from registry.artifacts.folder import FolderStore
from registry.artifacts.frames import verified
from registry.database import Database
from registry.groups import list_groups
from registry.home import Home
from registry.manifest import read_manifest
from registry.releases import get_release, list_releases
from registry.retention import named_digests, staged_in_use
from registry.versions import get_version
from tests.support.constant import ROW
from workers.packing.wire import checksum_of
from workers.segments.reader import Segment

STORES = range(1, 9)
MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Picture:
    """By group: what each key answers, the versions there are, what the newest ready release holds; who is suspended."""

    answers: Mapping[str, list[object]]
    versions: Mapping[str, Mapping[str, list[tuple[object, ...]]]]
    newest: Mapping[str, Mapping[str, int]]
    suspended: frozenset[str]


def take(client: Client, home: Path) -> Picture:
    """The picture of an open home."""
    groups = client.groups()
    return Picture(
        answers={group.name: answers(client, group.name) for group in groups},
        versions={group.name: _versions(client, group.name) for group in groups},
        newest={group.name: _newest(client, home, group.name) for group in groups},
        suspended=frozenset(group.name for group in groups if group.suspended),
    )


def answers(client: Client, group: str) -> list[object]:
    """For each store the value and the model that gave it, or the code of the error."""
    rows = [{"store": str(store), "brand": "a", **ROW} for store in STORES]
    answer = client.predict_bulk(group, rows, explain=True)
    errors = {error.row: error.code for error in answer.errors}
    assert answer.models is not None
    assert answer.model_index is not None
    used = [None if index is None else answer.models[index] for index in answer.model_index]
    return [
        errors.get(row, value) if use is None else (value, use.key, use.version)
        for row, (value, use) in enumerate(zip(answer.predictions, used, strict=True))
    ]


def _versions(client: Client, group: str) -> dict[str, list[tuple[object, ...]]]:
    return {
        head.key: [
            (one.version, one.digest, one.withdrawn, one.tombstone) for one in client.history(group, dict(head.fields))
        ]
        for head in client.models(group)
    }


def _newest(client: Client, home: Path, group: str) -> dict[str, int]:
    ready = next((release.number for release in client.releases(group) if release.state == "ready"), None)
    return {} if ready is None else contents(home, group, ready)


def contents(home: Path, group: str, number: int) -> dict[str, int]:
    """Key -> version of everything in a release, every model's bytes read and checked."""
    store = FolderStore(Home(home).artifacts)
    with closing(Database(Home(home).registry_url)) as database, database.read() as conn:
        manifest = get_release(conn, group, number).manifest
    assert manifest is not None
    found = {}
    for ref in read_manifest(verified(store.path(manifest).read_bytes(), manifest)).segments:
        segment = Segment.open(store.path(ref.digest), store)
        for row in range(len(segment)):
            if segment.packs.length(row):
                assert checksum_of(segment.packs.read(row)) == segment.packs.checksum(row)
            else:
                segment.read(row)
            found[segment.entry(row).key] = segment.entry(row).version
    return found


def check_databases(home: Path) -> None:
    """Both databases are whole, as SQLite itself sees it."""
    for name in ("registry.db", "leases.db"):
        with closing(sqlite3.connect(home / name)) as conn:
            assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert conn.execute("PRAGMA foreign_key_check").fetchall() == []


def check_versions(home: Path, picture: Picture) -> None:
    """The bytes of every version that is listed are there, and are those that were registered."""
    store = FolderStore(Home(home).artifacts)
    with closing(Database(Home(home).registry_url)) as database, database.read() as conn:
        for group in list_groups(conn):
            for key, versions in picture.versions[group.name].items():
                for number, digest, *_ in versions:
                    version = get_version(conn, group, group.schema.parse_text(key), int(str(number)))
                    assert version.place is not None
                    verified(read_slice(store, version.place, MOST_BYTES), str(digest))


def check_nothing_leaks(home: Path) -> None:
    """The artifact store holds exactly what is named."""
    store = FolderStore(Home(home).artifacts)
    with closing(Database(Home(home).registry_url)) as database, database.read() as conn:
        named = named_digests(conn)
        manifests = {
            release.manifest
            for group in list_groups(conn)
            for release in list_releases(conn, group)
            if release.manifest and release.state != "retired"
        }
        staged = staged_in_use(conn)
    for digest in manifests:
        named |= {ref.digest for ref in read_manifest(store.path(digest).read_bytes()).segments}
    assert {found.digest for found in store.objects()} == named
    assert {path.name for path in (Home(home).artifacts / "staged").iterdir()} == staged == set()


def await_idle(home: Path, seconds: float = 60.0) -> None:
    """Wait until no task is queued or under way."""
    deadline = time.monotonic() + seconds
    with closing(sqlite3.connect(home / "registry.db")) as conn:
        while rows := conn.execute("SELECT kind, state FROM tasks WHERE state IN ('queued', 'running')").fetchall():
            assert time.monotonic() < deadline, f"never finished: {rows}"
            time.sleep(0.02)
