"""A small home for tests of the builder: one group, uploads, and builders in this process or in one that dies."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from discovery.leases import SqlMembership, migrate_leases
from registry.artifacts.folder import FolderStore
from registry.database import Database, migrate
from registry.deployments import get_deployments
from registry.failpoints import VARIABLE
from registry.groups import create_group
from registry.home import Home
from registry.imports import Reject, create_import, get_import, list_rejects
from registry.keys import KeySchema
from registry.manifest import read_manifest
from registry.records import Import, Task, Version
from registry.releases import get_release
from registry.signature import Signature
from registry.tasks import enqueue, get_task
from registry.versions import newest
from tests.support import toy_runtimes
from workers.builder.context import Bench, BuilderContext, BuilderSettings
from workers.builder.service import BuilderService
from workers.segments.reader import Segment

GROUP = "oj"
SCHEMA = KeySchema(("store", "brand"), fallback=(("brand",), ()))
SIGNATURE = {"inputs": [{"name": "price"}, {"name": "feat"}], "outputs": [{"name": "sales"}]}
NOW = 1_780_000_000.0

TOYS = BuilderSettings(
    catalog=toy_runtimes.CATALOG,
    prepare=toy_runtimes.PREPARE,
    prepare_rows=toy_runtimes.PREPARE,
    proof_seconds=5.0,
    import_children=1,
    batch_rows=2,
    checkpoint_rows=4,
    publish_rows=3,
    lease_seconds=0.6,
)
REAL = BuilderSettings(lease_seconds=0.6)

# Works at most a minute: the tests' own limit must never be what ends it.
_SCRIPT = """
import sys, threading
from pathlib import Path
from tests.support.builders import TOYS
from workers.builder.main import run_builder

alarm = threading.Timer(60, lambda: __import__("os")._exit(3))
alarm.daemon = True
alarm.start()
run_builder(Path(sys.argv[1]), settings=TOYS)
"""


class BuilderHome:
    """A migrated home with one group; `close` closes its connections."""

    def __init__(
        self,
        root: Path,
        settings: BuilderSettings = TOYS,
        signature: Mapping[str, Any] = SIGNATURE,
        registry: str = "",
    ) -> None:
        self.home = Home(root)
        self.home.prepare()
        url = registry or self.home.registry_url
        migrate(url)
        migrate_leases(self.home.leases_url)
        self.database = Database(url)
        self.membership = SqlMembership(self.home.leases_url, ttl=settings.lease_seconds)
        self.store = FolderStore(self.home.artifacts)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.context = BuilderContext(self.database, self.store, self.membership, settings)
        self.bench = Bench.of(settings, threading.Event())
        with self.database.write() as conn:
            read = Signature.from_json(signature, SCHEMA.fields)
            create_group(conn, GROUP, SCHEMA, read, auto_release=True, now=NOW)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.bench.close()
        self.membership.close()
        self.database.close()

    def stage(self, data: bytes) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield data

        return asyncio.run(self.store.stage(chunks(), 1 << 30))[0]

    def ask_to_register(self, key: str, data: bytes, runtime: str = "sklearn", **meta: Any) -> int:
        payload = {"staged": self.stage(data), "key": key, "runtime": runtime, "meta": meta}
        with self.database.write() as conn:
            return enqueue(conn, "prove", GROUP, payload, NOW)

    def ask_to_import(self, columns: Mapping[str, Any], *, on_error: str = "fail", runtime: str | None = None) -> int:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(dict(columns)), sink)
        return self.ask_to_import_file(sink.getvalue().to_pybytes(), on_error=on_error, runtime=runtime)

    def ask_to_import_file(self, data: bytes, *, on_error: str = "fail", runtime: str | None = None) -> int:
        staged = self.stage(data)
        with self.database.write() as conn:
            item = create_import(
                conn, GROUP, source=staged, digest=str(hash(data)), on_error=on_error, runtime=runtime, now=NOW
            )
        return item.number

    def task(self, number: int) -> Task:
        with self.database.read() as conn:
            return get_task(conn, number)

    def build(self) -> int:
        """Do all work there is, here; what dead builders left is taken over at once."""
        self.membership.purge()
        return BuilderService(self.context).run_until_idle(self.bench)

    def build_until_killed_at(self, failpoint: str) -> int:
        """Run a builder process that dies at a failpoint; its exit status."""
        process = self._start([sys.executable, "-c", _SCRIPT, str(self.home.root)], {VARIABLE: failpoint})
        return process.wait(120)

    def start_builder(self, *, under_a_parent: bool = False) -> subprocess.Popen[bytes]:
        """Run a builder process; `under_a_parent` answers another process, which started it and waits."""
        command = [sys.executable, "-c", _SCRIPT, str(self.home.root)]
        if under_a_parent:
            command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *command]
        return self._start(command, {})

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(entry or os.curdir for entry in sys.path)
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path} | dict(environment))
        self._processes.append(process)
        return process

    def objects(self) -> set[str]:
        return {item.digest for item in self.store.objects()}

    def staged(self) -> list[str]:
        return [name for name, _ in self.store.staged_names()]

    def live(self) -> int | None:
        """The release that is live."""
        with self.database.read() as conn:
            deployments = get_deployments(conn, GROUP).deployments
        return deployments["blue"].release if deployments else None

    def contents(self, number: int) -> dict[str, int]:
        """Key to version of everything in a release."""
        with self.database.read() as conn:
            release = get_release(conn, GROUP, number)
        manifest = read_manifest(self.store.path(release.manifest).read_bytes())
        segments = [Segment.open(self.store.path(ref.digest), self.store) for ref in manifest.segments]
        return {
            entry.key: entry.version
            for segment in segments
            for entry in (segment.entry(i) for i in range(len(segment)))
        }

    def head(self, text: str) -> Version | None:
        """The newest version of a key."""
        with self.database.read() as conn:
            return newest(conn, GROUP, SCHEMA.parse_text(text))

    def imported(self, number: int) -> Import:
        with self.database.read() as conn:
            return get_import(conn, GROUP, number)

    def rejects(self, number: int) -> Sequence[Reject]:
        """The first hundred of an import."""
        with self.database.read() as conn:
            return list_rejects(conn, GROUP, number, 100, None).items


def columns_of(count: int = 9, model: bytes = b"sum") -> dict[str, list[Any]]:
    """The columns of an import of so many keys with one toy."""
    return {
        "store": [str(row) for row in range(count)],
        "brand": ["a"] * count,
        "model": [model] * count,
        "runtime": ["sklearn"] * count,
    }
