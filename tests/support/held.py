"""A worker over releases written by hand: real segments in a real store, no database."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from discovery.snapshot import DeploymentView, GroupView, LiveRelease, Revision, Snapshot
from registry.artifacts.bundle import write_bundle
from registry.artifacts.folder import FolderStore
from registry.artifacts.frames import compress
from registry.errors import Problem
from registry.keys import KeySchema, shard_of
from registry.manifest import FALLBACK_SHARD, Manifest, SegmentRef
from registry.signature import Signature
from tests.support.models import TinyModel
from tests.support.segments import in_memory
from workers.builder.proving import pack_artifact
from workers.cache import ModelCache
from workers.holdings import Holdings
from workers.loading import Loader
from workers.mappings import Mappings
from workers.packing.layout import NotPackableError
from workers.packing.verdicts import PACKED
from workers.packing.wire import read, written
from workers.runtimes.catalog import runtime
from workers.runtimes.runtime import Binding
from workers.segments.layout import StoredEntry
from workers.segments.writer import SegmentModel, write_segment
from workers.worker import LocalWorker

SCHEMA = KeySchema(("store", "brand"), fallback=(("brand",), ()))
SIGNATURE = Signature.from_json(
    {"inputs": [{"name": "price", "nullable": True}, {"name": "feat"}], "outputs": [{"name": "sales"}]}
)
SHARDS = 4


class Shelf:
    """A store, and snapshots of one group `oj` whose releases hold the models a test names by key text."""

    def __init__(
        self, home: Path, *, schema: KeySchema = SCHEMA, signature: Signature = SIGNATURE, packed: bool = False
    ) -> None:
        """`packed` packs what can be packed, as a builder does."""
        self.packed = packed
        self.store = FolderStore(home)
        self.schema = schema
        self.signature = signature

    def release(
        self,
        number: int,
        models: Mapping[str, TinyModel],
        *,
        heap: int = 20_000,
        large: tuple[str, ...] = (),
        **entry: Any,
    ) -> LiveRelease:
        """Write a release's segments; `heap` is what every model is said to weigh, `large` names keys stored alone."""
        shards: dict[int, list[SegmentModel]] = {}
        for text, model in models.items():
            key = self.schema.parse_text(text)
            full = len(key.pairs) == len(self.schema.fields)
            slot = self.schema.slot(key) if full else 0
            shard = shard_of(slot, SHARDS) if full else FALLBACK_SHARD
            digest = hashlib.sha256(model.data).hexdigest()
            place = write_bundle(self.store, [model.data])[0] if text in large else None
            stored = StoredEntry(
                text, number, model.runtime, digest, len(model.data), heap, slot=slot, place=place, **entry
            )
            shards.setdefault(shard, []).append(self._one(model, stored))
        refs = []
        for shard, found in sorted(shards.items()):
            written = self.store.put(write_segment(found, group="oj", shard=shard, shards=SHARDS))
            refs.append(SegmentRef(shard, written.digest, written.size, len(found)))
        manifest = Manifest("oj", number, SHARDS, self.schema.fields, self.schema.shard_by, self.signature, tuple(refs))
        digest = self.store.put([manifest.to_bytes()]).digest
        return LiveRelease(number, digest, manifest, promoted=None)

    def _one(self, model: TinyModel, entry: StoredEntry) -> SegmentModel:
        if entry.place:
            return SegmentModel.alone(entry)
        if self.packed:
            by, binding = runtime(model.runtime), Binding(self.signature, entry.classes)
            with suppress(NotPackableError, Problem):
                pack = pack_artifact(by, model.data, by.load(model.data, binding), self.signature)
                words, codes = read(written(pack))
                return in_memory(replace(entry, verdict=PACKED, codes=codes), words)
        return in_memory(entry, compress(model.data))

    def snapshot(self, *wanted: LiveRelease, disabled: frozenset[bytes] = frozenset()) -> Snapshot:
        """A snapshot that wants these releases and serves the first."""
        view = GroupView(
            name="oj",
            schema=self.schema,
            signature=self.signature,
            disabled=disabled,
            deployments={"blue": DeploymentView("blue", 100, wanted[0])} if wanted else {},
            wanted=wanted,
            auto_release=True,
            suspended=False,
        )
        return Snapshot(Revision("e", 1), {"oj": view}, ())


class Bench:
    """A local worker over a shelf, with its parts in reach; close it."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        budget: int = 64 << 20,
        large_budget: int = 256 << 20,
        large_from: int = 8 << 20,
        mapped_budget: int = 1 << 30,
        seat: str | None = None,
        **loader: Any,
    ) -> None:
        self.shelf = shelf
        self.holdings = Holdings(shelf.store, seat=seat)
        self.cache = ModelCache(budget, large_budget_bytes=large_budget, large_model_bytes=large_from)
        self.loader = Loader(self.cache, **loader)
        self.mappings = Mappings(mapped_budget)
        self.worker = LocalWorker(self.holdings, self.cache, self.loader, self.mappings, queue_seconds=0.5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.worker.close()

    def hold(self, models: Mapping[str, TinyModel], **options: Any) -> Self:
        release = self.shelf.release(1, models, **options)
        self.manifest = release.manifest
        adoption = self.holdings.adopt(self.shelf.snapshot(release))
        assert not adoption.failed
        return self
