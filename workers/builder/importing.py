"""Importing a fleet: a staged bulk file becomes versions, resumable at every step.

A child reads the file, children prove its rows, and at checkpoints the proved artifacts are stored as a bundle and
their rows set aside, invisible to all. Only when the whole file is proved, and good enough, are the rows published in
short transactions. A builder that dies is followed by one that goes on from the last checkpoint.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, Final, cast

from sqlalchemy import Connection

from registry.errors import GroupNotFoundError, ImportNotFoundError
from registry.failpoints import failpoint
from registry.groups import get_group
from registry.imports import Reject, checkpoint, fail_import, finish_import, get_import, publish, resume_row
from registry.records import BundleSlice, Group, Import, NewVersion, RuntimeName, Task
from registry.releases import begin_release
from registry.tasks import fail, finish, holds_claim
from workers.builder.bundling import write_proofs
from workers.builder.context import AbandonedError, Bench, BuilderContext, ClaimLostError
from workers.builder.proof import ProofContext, ProvedRow, ReadingPlan, RefusedRow, RowBatch
from workers.builder.releasing import build, fail_unbuilt, go_live_if_nothing_is
from workers.errors import ImportRejectedError

FAILPOINTS: Final = (
    "import.claimed",
    "import.bundle_stored",
    "import.checkpointed",
    "import.proved",
    "import.published_some",
    "import.published",
    "import.finished",
    "import.released",
    "import.refused",
)

Row = ProvedRow | RefusedRow


def run_import(context: BuilderContext, bench: Bench, task: Task) -> None:
    """Carry out an `import` task, from wherever an earlier claim left it.

    Payload `{"import", "runtime", "on_error"}`, result `{"import", "release"}`.

    Raises:
        Problem: why the import fails as a whole.
        AbandonedError: if the builder stops; the next claim goes on.
        ClaimLostError: if another builder has the task now.
    """
    failpoint("import.claimed")
    number = task.payload["import"]
    with context.database.read() as conn:
        group = get_group(conn, task.group)
        item = get_import(conn, group, number)
    if item.state in ("queued", "proving"):
        _prove(context, bench, group, item, task)
        failpoint("import.proved")
        _judge(context, group, item)
    if item.state != "done":
        _publish(context, bench, group, number, task)
        failpoint("import.published")
        _finish(context, group, number)
        failpoint("import.finished")
    context.store.unstage(item.source)
    released = _release(context, group, number)
    with context.database.write() as conn:
        if not finish(conn, task, {"import": number, "release": released}, context.clock()):
            raise ClaimLostError


def refuse(context: BuilderContext, task: Task, problem: Mapping[str, Any]) -> None:
    """Record why an import failed as a whole: nothing of it becomes visible, and its upload is removed."""
    number = task.payload["import"]
    source = None
    now = context.clock()
    with context.database.write() as conn:
        if not fail(conn, task, problem, now):
            raise ClaimLostError
        with suppress(GroupNotFoundError, ImportNotFoundError):
            item = get_import(conn, task.group, number)
            source = item.source
            if item.state not in ("done", "failed"):
                fail_import(conn, task.group, number, problem, now)
            elif item.release is not None:
                fail_unbuilt(conn, task.group, item.release, problem, now)
    failpoint("import.refused")
    if source is not None:
        context.store.unstage(source)


def _prove(context: BuilderContext, bench: Bench, group: Group, item: Import, task: Task) -> None:
    settings = context.settings
    with context.database.read() as conn:
        start = resume_row(conn, group, item.number)
    plan = ReadingPlan(
        context.store.staged(item.source), group.schema.fields, start, settings.batch_rows, settings.batch_bytes
    )
    shared = ProofContext(
        group.schema, group.signature, settings.artifact_bytes, task.payload.get("runtime"), settings.catalog
    )
    with closing(bench.reader.read(plan)) as batches:
        for rows in _portions(context, _proved(bench, shared, batches)):
            _checkpoint(context, group, item, rows, task)


def _judge(context: BuilderContext, group: Group, item: Import) -> None:
    """Refuse the whole import where its caller wants all rows or none."""
    with context.database.read() as conn:
        rejected = get_import(conn, group, item.number).rejected
    if rejected and item.on_error == "fail":
        raise ImportRejectedError(
            f"{rejected} rows are rejected, so nothing is registered; see the import's rejects, or import with "
            "on_error=skip to register the others"
        )


def _proved(bench: Bench, shared: ProofContext, batches: Iterable[RowBatch]) -> Iterator[Sequence[Row]]:
    """Proved rows in the file's order, while a few batches are under way."""
    waiting: deque[Future[list[Row]]] = deque()
    threads = ThreadPoolExecutor(bench.bulk.size, "prover")
    try:
        for batch in batches:
            waiting.append(threads.submit(bench.bulk.prove_rows, shared, batch))
            if len(waiting) > bench.bulk.size:
                yield waiting.popleft().result()
            if bench.stop.is_set():
                raise AbandonedError
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def _portions(context: BuilderContext, proved: Iterable[Sequence[Row]]) -> Iterator[list[Row]]:
    """Rows in portions that are worth a bundle and a transaction."""
    rows: list[Row] = []
    size = 0
    for batch in proved:
        rows.extend(batch)
        size += sum(len(row.proof.frame) + len(row.proof.pack) for row in batch if isinstance(row, ProvedRow))
        if len(rows) >= context.settings.checkpoint_rows or size >= context.settings.checkpoint_bytes:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _checkpoint(context: BuilderContext, group: Group, item: Import, rows: Sequence[Row], task: Task) -> None:
    good = [row for row in rows if isinstance(row, ProvedRow)]
    places = write_proofs(context.store, [row.proof for row in good])
    failpoint("import.bundle_stored")
    staged = [(row.row, _new_version(row, place)) for row, place in zip(good, places, strict=True)]
    with context.database.write() as conn:
        _check_claim(conn, task)
        checkpoint(
            conn,
            group,
            item.number,
            staged=staged,
            rejects=[_reject(row) for row in rows if isinstance(row, RefusedRow)],
            rows=rows[-1].row + 1,
            proved=len(good),
        )
    failpoint("import.checkpointed")


def _new_version(row: ProvedRow, place: BundleSlice) -> NewVersion:
    runtime = cast("RuntimeName", row.runtime)  # the proof refused all others
    proof = row.proof
    return NewVersion(row.key, proof.digest, runtime, proof.size, proof.heap, place, row.meta, proof.packing)


def _reject(row: RefusedRow) -> Reject:
    return Reject(row.row, row.key, row.problem.code, row.problem.detail, row.problem.field)


def _publish(context: BuilderContext, bench: Bench, group: Group, number: int, task: Task) -> None:
    remaining = True
    while remaining:
        if bench.stop.is_set():
            raise AbandonedError
        with context.database.write() as conn:
            _check_claim(conn, task)
            remaining = publish(conn, group, number, context.settings.publish_rows, context.clock()) > 0
        failpoint("import.published_some")


def _check_claim(conn: Connection, task: Task) -> None:
    if not holds_claim(conn, task):
        raise ClaimLostError


def _finish(context: BuilderContext, group: Group, number: int) -> None:
    """End the import and, in the same transaction, number the release of what it brought."""
    now = context.clock()
    with context.database.write() as conn:
        latest = get_group(conn, group.name)
        item = get_import(conn, group, number)
        release = None
        if latest.auto_release and not latest.suspended and item.registered:
            release = begin_release(conn, latest, base=None, named=None, gates={}, now=now).number
        finish_import(conn, latest, number, release=release, now=now)


def _release(context: BuilderContext, group: Group, number: int) -> int | None:
    """Build the release of an import; it goes live by itself only where nothing is live yet."""
    with context.database.read() as conn:
        release = get_import(conn, group, number).release
    if release is None:
        return None
    built = build(context, group.name, release, patient=True)
    if built.state == "ready":
        go_live_if_nothing_is(context, built)
    failpoint("import.released")
    return release
