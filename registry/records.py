"""The registry's rows as immutable values, so that no other room sees SQL.

Times are seconds since 1970 UTC (float); digests are 64 lower-case hex digits of SHA-256; sizes are bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from registry.keys import KeySchema, PartitionKey
from registry.signature import Label, Signature

RuntimeName = Literal["lightgbm", "onnx", "sklearn"]
ReleaseState = Literal["building", "ready", "blocked", "failed", "retired"]
HoldAction = Literal["disable", "pin", "freeze"]
TaskKind = Literal["prove", "import", "release"]
TaskState = Literal["queued", "running", "done", "failed"]
ImportState = Literal["queued", "proving", "publishing", "done", "failed"]

DEFAULT_REPLICAS: Final = 2
DEFAULT_POOL: Final = "default"


@dataclass(frozen=True, slots=True)
class Group:
    """A homogeneous family of models: same key fields, same signature."""

    id: int
    name: str
    schema: KeySchema
    signature: Signature
    auto_release: bool
    suspended: bool  # auto_release rests after a rollback, until the next promotion
    created: float
    replicas: int = DEFAULT_REPLICAS  # how many seats hold each of its shards
    pool: str = DEFAULT_POOL  # of workers, whose seats those are


@dataclass(frozen=True, slots=True)
class ModelMeta:
    """What its author says of a model.

    Attributes:
        tags: text to text, filterable in listings.
        metrics: text to number.
        provenance: trained_at, trained_through, data, run, commit, libraries... (text to text).
        classes: the class labels of a classifier's outputs in the model's own order, where the artifact lacks them.
        examples: rows with their expected answers, re-scored at registration: `{"instances": [...], "predictions":
            [...]}`; empty for none.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[Label, ...] = ()
    examples: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained_through(self) -> str | None:
        """The last moment the training data covers, as the author wrote it."""
        return self.provenance.get("trained_through")


@dataclass(frozen=True, slots=True)
class BundleSlice:
    """Where an artifact lies: a zstd frame (RFC 8878) of `length` bytes at `offset` of the object `bundle`."""

    bundle: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Packing:
    """What the proof said of a model's pack.

    Attributes:
        verdict: `packed`, or in one word why the model stays with its native library.
        length: bytes of the pack's zstd frame, which lies right behind the artifact's; 0 for none.
        size: bytes of the pack.
    """

    verdict: str = "unknown"
    length: int = 0
    size: int = 0


NOT_TRIED: Final = Packing()


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A proved artifact about to become a version: everything a version row holds but its number and sequence."""

    key: PartitionKey
    digest: str  # of the artifact's own bytes
    runtime: RuntimeName
    size: int  # bytes of the artifact
    heap: int  # measured bytes of the loaded model
    place: BundleSlice
    meta: ModelMeta
    packing: Packing = NOT_TRIED


@dataclass(frozen=True, slots=True)
class Version:
    """A model version. A tombstone has no artifact: digest, runtime and place are None."""

    key: PartitionKey
    number: int
    sequence: int
    digest: str | None
    runtime: RuntimeName | None
    size: int
    heap: int
    place: BundleSlice | None
    meta: ModelMeta
    withdrawn: bool
    created: float
    packing: Packing = NOT_TRIED

    @property
    def pack_place(self) -> BundleSlice | None:
        """Where the pack's frame lies; None for none."""
        if self.place is None or not self.packing.length:
            return None
        return BundleSlice(self.place.bundle, self.place.offset + self.place.length, self.packing.length)

    @property
    def tombstone(self) -> bool:
        """Whether this version says that the key has no model any more."""
        return self.digest is None


@dataclass(frozen=True, slots=True)
class Release:
    """A release row. `through` is the highest sequence number that building it took notice of.

    `manifest` is the digest of the manifest object (see `registry.manifest`), None until ready.
    `report` counts added, changed, carried, lost, stale, failed, and names a few of each.
    `gates` are the limits it was asked to keep (`max_lost`, `max_failed`, `max_stale_days`).
    """

    number: int
    group: str
    state: ReleaseState
    base: int | None
    through: int
    manifest: str | None
    models: int
    size: int
    report: Mapping[str, Any]
    created: float
    ready: float | None
    gates: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A named slot of a group pointing at a release, with its share of the traffic in percent."""

    name: str
    release: int
    traffic: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A standing rule for one key. `until` None is without end."""

    key: PartitionKey
    action: HoldAction
    version: int | None  # of a pin
    reason: str
    author: str
    created: float
    until: float | None


@dataclass(frozen=True, slots=True)
class Task:
    """Work for a builder. `fence` grows with every claim; only the newest claim may finish the task."""

    id: int
    kind: TaskKind
    group: str
    payload: Mapping[str, Any]
    state: TaskState
    fence: int
    result: Mapping[str, Any] | None
    created: float


@dataclass(frozen=True, slots=True)
class Import:
    """A bulk import as its caller sees it."""

    number: int
    group: str
    state: ImportState
    on_error: Literal["fail", "skip"]
    source: str  # staged upload name
    rows: int
    proved: int
    registered: int
    unchanged: int
    rejected: int
    release: int | None
    error: Mapping[str, Any] | None
    created: float
    finished: float | None
