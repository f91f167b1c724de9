"""What goes to a child and what comes back, as plain values that import no model library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from registry.errors import Problem
from registry.keys import KeySchema, PartitionKey
from registry.records import ModelMeta, Packing, RuntimeName
from registry.signature import Signature
from workers.packing.verdicts import UNTRIED

RUNTIMES: Final[tuple[str, ...]] = get_args(RuntimeName)
MAX_WORDS: Final = 500  # characters of a key that cannot be canonical
CATALOG: Final = "workers.runtimes.catalog:runtime"


@dataclass(frozen=True, slots=True)
class ProofContext:
    """What all proofs of a job share.

    Attributes:
        schema, signature: of the group.
        artifact_bytes: the most one artifact may have.
        runtime: the runtime of rows that name none.
        catalog: dotted name of the function from a runtime's name to its `Runtime`.
    """

    schema: KeySchema
    signature: Signature
    artifact_bytes: int
    runtime: str | None = None
    catalog: str = CATALOG


@dataclass(frozen=True, slots=True)
class ProofRequest:
    """One artifact to prove, as bytes or as a file that the child reads itself."""

    key: PartitionKey
    runtime: str
    source: bytes | Path
    meta: ModelMeta = field(default_factory=ModelMeta)


@dataclass(frozen=True, slots=True)
class Proof:
    """A proved artifact.

    Attributes:
        digest: SHA-256 of the artifact, 64 hex digits.
        size: bytes of the artifact.
        heap: measured bytes of the loaded model.
        inputs: positions of the signature's inputs that it reads.
        frame: the artifact as a zstd frame, ready for a bundle.
        verdict: `packed`, or why the model stays with its native library.
        pack: the pack and its codes as a zstd frame, empty for none.
        pack_size: bytes of the pack.
    """

    digest: str
    size: int
    heap: int
    inputs: tuple[int, ...]
    frame: bytes
    verdict: str = UNTRIED
    pack: bytes = b""
    pack_size: int = 0

    @property
    def packing(self) -> Packing:
        """What the version row says of the pack."""
        return Packing(self.verdict, len(self.pack), self.pack_size)


@dataclass(frozen=True, slots=True)
class BulkRow:
    """A row of a bulk file as read, nothing of it checked.

    Attributes:
        row: position in the file, from 0.
        key: key columns; None where the file has null.
        meta: tags, metrics, provenance and classes in the JSON form that `registry.meta` reads.
    """

    row: int
    key: Mapping[str, Any]
    runtime: Any
    model: Any
    meta: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProvedRow:
    """A bulk row that may become a version."""

    row: int
    key: PartitionKey
    runtime: str
    meta: ModelMeta
    proof: Proof


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A bulk row that may not; `key` is text for people, as far as it could be read."""

    row: int
    key: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """What to read and in which portions.

    Attributes:
        path: the file.
        fields: the group's key fields.
        start: rows before this one were read in an earlier life.
        batch_rows, batch_bytes: a batch ends at whichever comes first.
    """

    path: Path
    fields: tuple[str, ...]
    start: int
    batch_rows: int
    batch_bytes: int


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows `first` to `first + count` of the file; `rows` is a pickled sequence of `BulkRow`."""

    first: int
    count: int
    rows: bytes


def key_words(schema: KeySchema, given: Mapping[str, Any]) -> str:
    """A key for people, however wrong it is: canonical if it can be, else its fields as they were given."""
    try:
        return schema.parse_partial({field: value for field, value in given.items() if value is not None}).text
    except Problem:
        return "/".join(f"{field}={value}" for field, value in given.items())[:MAX_WORDS]
