"""Registering one model: a staged upload becomes a version, or nothing at all.

The order of steps is what makes it safe to die between any two: the artifact is stored before a row names it, the
version, the end of the task and the wish for a release are one transaction, and the upload goes last. A repeated run
stores the same object again under the same digest and adds no second version.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, cast

from registry.artifacts.bundle import BundleReader
from registry.artifacts.frames import verified
from registry.errors import ArtifactDamagedError, ArtifactMissingError
from registry.failpoints import failpoint
from registry.groups import get_group
from registry.keys import PartitionKey
from registry.meta import read_meta
from registry.records import BundleSlice, Group, NewVersion, Packing, RuntimeName, Task
from registry.tasks import enqueue_auto_release, fail, finish
from registry.versions import add_versions, newest
from workers.builder.bundling import write_proofs
from workers.builder.contents import read_pack
from workers.builder.context import Bench, BuilderContext, ClaimLostError
from workers.builder.proof import Proof, ProofContext, ProofRequest

FAILPOINTS: Final = ("register.claimed", "register.proved", "register.stored", "register.recorded", "register.refused")


def register(context: BuilderContext, bench: Bench, task: Task) -> None:
    """Carry out a `prove` task.

    Payload `{"staged", "key", "runtime", "meta"}`, result `{"version", "digest", "created"}`.

    Raises:
        Problem: why the model is refused; nothing was stored.
        ClaimLostError: if another builder has the task now.
    """
    failpoint("register.claimed")
    with context.database.read() as conn:
        group = get_group(conn, task.group)
    request = _request(context, group, task.payload)
    proving = ProofContext(
        group.schema, group.signature, context.settings.artifact_bytes, catalog=context.settings.catalog
    )
    proof = bench.interactive.prove(proving, request)
    failpoint("register.proved")
    place, packing = _place(context, group, request.key, proof)
    failpoint("register.stored")
    _record(context, task, group, _new_version(request, proof, place, packing))
    failpoint("register.recorded")
    context.store.unstage(task.payload["staged"])


def refuse(context: BuilderContext, task: Task, problem: Mapping[str, Any]) -> None:
    """Record why a model is refused, and remove its upload: nothing else of it was stored."""
    with context.database.write() as conn:
        if not fail(conn, task, problem, context.clock()):
            raise ClaimLostError
    failpoint("register.refused")
    context.store.unstage(task.payload["staged"])


def _request(context: BuilderContext, group: Group, payload: Mapping[str, Any]) -> ProofRequest:
    return ProofRequest(
        key=group.schema.parse_text(payload["key"]),
        runtime=payload["runtime"],
        source=context.store.staged(payload["staged"]),
        meta=read_meta(payload.get("meta")),
    )


def _place(context: BuilderContext, group: Group, key: PartitionKey, proof: Proof) -> tuple[BundleSlice, Packing]:
    """Where the artifact lies, and the pack behind it: as the key's newest version has them if its bytes are the same.

    Where those bytes or their pack were lost or damaged, writing them again heals the bundle of a model that was
    registered alone.
    """
    with context.database.read() as conn:
        head = newest(conn, group, key)
    if head is not None and head.place is not None and head.digest == proof.digest:
        with suppress(ArtifactMissingError, ArtifactDamagedError), BundleReader(context.store) as bundles:
            verified(bundles.read(head.place, proof.size), proof.digest)
            if head.pack_place is not None:
                read_pack(bundles, head.pack_place, head.packing.size)
            return head.place, head.packing
        if not head.packing.length:  # only the very same bytes are the bundle that was lost
            proof = replace(proof, verdict=head.packing.verdict, pack=b"", pack_size=0)
    [place] = write_proofs(context.store, [proof])
    return place, proof.packing


def _new_version(request: ProofRequest, proof: Proof, place: BundleSlice, packing: Packing) -> NewVersion:
    runtime = cast("RuntimeName", request.runtime)  # the proof refused all others
    return NewVersion(request.key, proof.digest, runtime, proof.size, proof.heap, place, request.meta, packing)


def _record(context: BuilderContext, task: Task, group: Group, new: NewVersion) -> None:
    now = context.clock()
    with context.database.write() as conn:
        [added] = add_versions(conn, group, [new], now)
        version = added.version
        latest = get_group(conn, group.name)  # its switches may have been turned while the proof ran
        if added.created and latest.auto_release and not latest.suspended:
            enqueue_auto_release(conn, latest, [(version.key, version.number)], now)
        result = {"version": version.number, "digest": version.digest, "created": added.created}
        if not finish(conn, task, result, now):
            raise ClaimLostError
