"""What all work of a builder is done with: one frozen context, made once when the builder starts."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from discovery.membership import Membership
from registry.artifacts.store import ArtifactStore
from registry.database import Database
from registry.errors import Problem
from workers.builder.opened import OpenedSegments
from workers.builder.proof import CATALOG
from workers.builder.proof_pool import PREPARE, PREPARE_ROWS, FileReader, ProofPool

MEBIBYTE: Final = 1 << 20


def _half_the_memory() -> int:
    """At most 4 GiB, and no more than half of what the machine has."""
    return min(4096 * MEBIBYTE, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


@dataclass(frozen=True, slots=True)
class BuilderSettings:
    """Limits of a builder. Sizes are bytes, times are seconds.

    Attributes:
        artifact_bytes: the most one artifact may have.
        proof_seconds: deadline for parsing and probing one artifact.
        proof_bytes: what one proof may allocate in its child.
        import_children: proof processes of a bulk import; one more is kept for single registrations.
        batch_rows, batch_bytes: how much of a bulk file goes to a child in one message.
        checkpoint_rows, checkpoint_bytes: how much an import proves before it makes that durable.
        publish_rows: versions an import adds in one transaction.
        promote_seconds: deadline for members to prepare a release that promotes itself.
        stale_days: training data older than this counts as stale.
        poll_seconds: how often the builder looks for work.
        registry, artifacts, membership: where the house's state lies, as `Home.addresses` takes it.
        disk_cache_bytes: of a bucket, on this machine's disk.
        lease_seconds: after how long without a renewal a builder counts as dead.
        niceness: of the bulk import's children, so that serving goes first.
        catalog: dotted name by which children find the runtimes.
        prepare, prepare_rows: dotted names of what children call first that prove registrations, or rows of imports.
    """

    artifact_bytes: int = 512 * MEBIBYTE
    proof_seconds: float = 30.0
    proof_bytes: int = field(default_factory=_half_the_memory)
    import_children: int = field(default_factory=lambda: os.cpu_count() or 1)
    batch_rows: int = 64
    batch_bytes: int = 8 * MEBIBYTE
    checkpoint_rows: int = 1000
    checkpoint_bytes: int = 32 * MEBIBYTE
    publish_rows: int = 2000
    promote_seconds: float = 10.0
    stale_days: int = 30
    poll_seconds: float = 0.02
    registry: str = ""
    artifacts: str = ""
    disk_cache_bytes: int = 20 * 1024 * MEBIBYTE
    membership: str = ""
    lease_seconds: float = 3.0
    niceness: int = 5
    catalog: str = CATALOG
    prepare: str = PREPARE
    prepare_rows: str = PREPARE_ROWS


@dataclass(frozen=True)
class BuilderContext:
    """Where a builder's work finds what it needs. `clock` tells seconds since 1970; all builds share `opened`."""

    database: Database
    store: ArtifactStore
    membership: Membership
    settings: BuilderSettings
    clock: Callable[[], float] = time.time
    opened: OpenedSegments = field(default_factory=OpenedSegments)


@dataclass(frozen=True, slots=True)
class Bench:
    """The children a builder works with, and the event that asks it to stop at the next opportunity.

    `interactive` proves single registrations, so that they never queue behind an import's rows.
    """

    interactive: ProofPool
    bulk: ProofPool
    reader: FileReader
    stop: threading.Event

    @classmethod
    def of(cls, settings: BuilderSettings, stop: threading.Event) -> "Bench":
        """Pools that start their children when they are first needed."""
        seconds, memory, nice = settings.proof_seconds, settings.proof_bytes, settings.niceness
        return cls(
            ProofPool(1, seconds, memory, prepare=settings.prepare),
            ProofPool(settings.import_children, seconds, memory, niceness=nice, prepare=settings.prepare_rows),
            FileReader(seconds, memory, niceness=nice),
            stop,
        )

    def close(self) -> None:
        """End all children."""
        self.interactive.close()
        self.close_bulk()

    def close_bulk(self) -> None:
        """End the children of imports; the next import starts new ones."""
        self.bulk.close()
        self.reader.close()


class ClaimLostError(Exception):
    """Another builder has taken the task over: this one must leave no trace of it."""


class AbandonedError(Exception):
    """The builder stops in the middle of a task; the next one to claim it goes on from its last checkpoint."""


def problem_json(problem: Problem) -> dict[str, object]:
    """A problem as tasks and imports record it."""
    return {"code": problem.code, "detail": problem.detail, "field": problem.field, "row": problem.row}
