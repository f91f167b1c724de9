"""Proof of one artifact: it is what its header says, parses, fits the signature, answers, and agrees with its author.

Runs in a builder's child, because nothing here can trust the bytes it works on. The child also hashes and compresses
what it proved, so that the builder itself only copies frames.
"""

import gc
import hashlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from registry.artifacts.frames import compress
from registry.errors import Problem
from registry.meta import read_meta
from registry.records import ModelMeta
from registry.signature import Signature
from workers.builder.examples import compare, example_features, expected_scores
from workers.builder.heap import allocated, held_since
from workers.builder.probe import make_probe, try_model
from workers.builder.proof import (
    CATALOG,
    RUNTIMES,
    BulkRow,
    Proof,
    ProofContext,
    ProofRequest,
    ProvedRow,
    RefusedRow,
    key_words,
)
from workers.errors import ArtifactInvalidError, ArtifactTooLargeError, ProofFailedError
from workers.packing.layout import NotPackableError, Pack
from workers.packing.proof import prove_pack
from workers.packing.verdicts import LARGE, PACKED
from workers.packing.wire import written
from workers.runtimes.finding import found_runtime
from workers.runtimes.runtime import Binding, LoadedModel, Runtime
from workers.segments.layout import LARGE_MODEL_BYTES

SETTLING_BYTES: Final = 8 << 20  # a first artifact up to this size is loaded twice, so that only the model is measured
DETAIL_CHARACTERS: Final = 500
BROKEN: Final = "shape"  # the verdict of a model on which packing broke: there is something that packs do not expect

_settled: set[str] = set()  # runtimes that have loaded a model in this process


def prepare() -> None:
    """Import every runtime's library, so that no registration waits for it."""
    for name in RUNTIMES:
        found_runtime(CATALOG, name)


def prepare_rows() -> None:
    """What every proof needs is imported with this module; a library is when its first row comes."""


def prove_artifact(
    runtime: Runtime, data: bytes, binding: Binding, *, key: Mapping[str, str], meta: ModelMeta
) -> tuple[int, LoadedModel]:
    """Load, probe and re-score one artifact: its measured heap bytes and the model.

    Raises:
        ArtifactInvalidError, SignatureMismatchError: from the runtime.
        ProofFailedError: if the probe fails.
        MetaInvalidError, ExampleMismatchError: from the examples.
    """
    runtime.sniff(data)
    examples = meta.examples
    rows = example_features(binding.signature, examples["instances"], key) if examples else None
    expected = expected_scores(binding.signature, examples["predictions"]) if examples else None
    probe = make_probe(binding.signature, key)
    if runtime.name not in _settled and len(data) <= SETTLING_BYTES:
        try_model(runtime.load(data, binding), binding.signature, probe)
        _settled.add(runtime.name)
    in_python = runtime.in_python
    if in_python:
        gc.collect()
    before = allocated(in_python=in_python)
    model = runtime.load(data, binding)
    try_model(model, binding.signature, probe)
    heap = held_since(before, in_python=in_python)
    if rows is not None and expected is not None:
        compare(model.predict(rows), expected, runtime.name)
    return heap, model


def pack_artifact(runtime: Runtime, data: bytes, model: LoadedModel, signature: Signature) -> Pack:
    """The pack of a loaded artifact, proved to answer as it does.

    Raises:
        NotPackableError: why there is none.
    """
    if len(data) > LARGE_MODEL_BYTES:
        raise NotPackableError(LARGE, "it lies alone, in no segment")
    pack, probe = runtime.pack(data, model, signature)
    prove_pack(pack, probe, model, signature, runtime.tolerance)
    return pack


def prove(context: ProofContext, request: ProofRequest) -> Proof:
    """Prove one artifact.

    Raises:
        Problem: whatever is wrong with it; never another exception.
    """
    try:
        return _prove(context, request)
    except Problem:
        raise
    except MemoryError as error:
        raise ProofFailedError("the model needs more memory than a proof may take") from error
    except Exception as error:  # a stranger's bytes may break a library in any way
        raise ProofFailedError(f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS]) from error


def prove_one(context: bytes, payload: bytes) -> Iterator[bytes]:
    """A child's job: one pickled `ProofRequest` to one pickled `Proof` or `Problem`."""
    try:
        yield pickle.dumps(prove(_context(context), pickle.loads(payload)))  # noqa: S301 - from our parent process
    except Problem as problem:
        yield pickle.dumps(problem)


def prove_rows(context: bytes, payload: bytes) -> Iterator[bytes]:
    """A child's job: pickled `(rows, start, stop)` to one pickled `ProvedRow` or `RefusedRow` for each of the slice."""
    rows, start, stop = pickle.loads(payload)  # noqa: S301 - from our parent process
    shared = _context(context)
    batch: Sequence[BulkRow] = pickle.loads(rows)[start:stop]  # noqa: S301 - from the child that read the file
    for row in batch:
        yield pickle.dumps(prove_row(shared, row))


def prove_row(context: ProofContext, row: BulkRow) -> ProvedRow | RefusedRow:
    """Check and prove one row of a bulk file."""
    try:
        given = {field: value for field, value in row.key.items() if value is not None}
        key = context.schema.parse_partial(given)
        meta = read_meta(row.meta)
        runtime = str(row.runtime or context.runtime or "")
        if type(row.model) is not bytes or not row.model:
            raise ArtifactInvalidError("the row has no model", field="model")
        proof = prove(context, ProofRequest(key, runtime, row.model, meta))
        return ProvedRow(row.row, key, runtime, meta, proof)
    except Problem as problem:
        return RefusedRow(row.row, key_words(context.schema, row.key), problem)


@lru_cache(maxsize=4)
def _context(pickled: bytes) -> ProofContext:
    context: ProofContext = pickle.loads(pickled)  # noqa: S301 - from our parent process
    return context


def _prove(context: ProofContext, request: ProofRequest) -> Proof:
    if request.runtime not in RUNTIMES:
        raise ArtifactInvalidError(f"runtime must be one of {list(RUNTIMES)}, got {request.runtime!r}", field="runtime")
    data = _read(request.source, context.artifact_bytes)
    binding = Binding(context.signature, request.meta.classes)
    runtime = found_runtime(context.catalog, request.runtime)
    heap, model = prove_artifact(runtime, data, binding, key=request.key.as_dict(), meta=request.meta)
    digest, frame = hashlib.sha256(data).hexdigest(), compress(data)
    try:
        pack = pack_artifact(runtime, data, model, context.signature)
        packed = compress(written(pack))
    except NotPackableError as refusal:
        return Proof(digest, len(data), heap, model.inputs, frame, refusal.because)
    except Exception:  # noqa: BLE001 - the model itself was proved: whatever breaks a packer, its library serves it
        return Proof(digest, len(data), heap, model.inputs, frame, BROKEN)
    return Proof(digest, len(data), heap, model.inputs, frame, PACKED, packed, pack.words.nbytes)


def _read(source: bytes | Path, most: int) -> bytes:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > most:
        raise ArtifactTooLargeError(f"the artifact has {size} bytes, the limit is {most}", field="model")
    return source if isinstance(source, bytes) else source.read_bytes()
