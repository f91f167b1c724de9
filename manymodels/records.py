"""What the control side of the server keeps, as immutable values: groups, versions, releases, imports, holds.

Times are aware datetimes (UTC), sizes bytes, digests lower-case hex SHA-256.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from manymodels.reading import moment, pick


@dataclass(frozen=True, slots=True)
class LiveRelease:
    """The release that answers for a group. `promoted` is when it went live; sizes are bytes."""

    deployment: str
    release: int
    promoted: datetime | None
    age_seconds: float
    models: int
    bytes: int

    @classmethod
    def from_json(cls, body: Any) -> "LiveRelease | None":
        """Read the JSON form; null is no live release."""
        return None if body is None else pick(cls, body, promoted=moment(body.get("promoted")))


@dataclass(frozen=True, slots=True)
class Group:
    """A family of models. `live`, `models` and `holds` are only known where one group was asked for.

    `replicas` seats of the `pool` of workers hold each of its shards, where workers hold shares.
    """

    name: str
    key: list[str]
    shard_by: list[str]
    fallback: list[list[str]]
    signature: Mapping[str, Any]
    auto_release: bool
    suspended: bool
    created: datetime | None
    live: LiveRelease | None = None
    models: int | None = None
    holds: int | None = None
    replicas: int = 2
    pool: str = "default"

    @classmethod
    def from_json(cls, body: Any) -> "Group":
        """Read the JSON form."""
        return pick(cls, body, created=moment(body.get("created")), live=LiveRelease.from_json(body.get("live")))


@dataclass(frozen=True, slots=True)
class Registered:
    """The version a registered model became; `created` is false if these very bytes were the newest already."""

    key: str
    version: int
    digest: str
    created: bool

    @classmethod
    def from_json(cls, body: Any) -> "Registered":
        """Read the JSON form."""
        return pick(cls, body)


@dataclass(frozen=True, slots=True)
class LivePeriod:
    """When a version answered, through which release; `end` None is until now."""

    deployment: str
    release: int
    start: datetime | None
    end: datetime | None

    @classmethod
    def from_json(cls, body: Any) -> "LivePeriod":
        """Read the JSON form."""
        return pick(cls, body, start=moment(body.get("from")), end=moment(body.get("to")))


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of one key's model. A tombstone has neither digest nor runtime.

    `live` is only known where the history was asked for.
    """

    key: str
    version: int
    digest: str | None
    runtime: str | None
    bytes: int
    heap_bytes: int
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    provenance: Mapping[str, str]
    created: datetime | None
    withdrawn: bool
    tombstone: bool
    fields: Mapping[str, str] = field(default_factory=dict)
    live: tuple[LivePeriod, ...] = ()

    @classmethod
    def from_json(cls, body: Any) -> "ModelVersion":
        """Read the JSON form."""
        live = tuple(LivePeriod.from_json(period) for period in body.get("live", ()))
        return pick(cls, body, created=moment(body.get("created")), live=live)


@dataclass(frozen=True, slots=True)
class Release:
    """A release: `state` is building, ready, blocked, failed or retired; `report` counts what it changed."""

    number: int
    state: str
    base: int | None
    models: int
    bytes: int
    report: Mapping[str, Any]
    created: datetime | None
    ready: datetime | None

    @classmethod
    def from_json(cls, body: Any) -> "Release":
        """Read the JSON form."""
        return pick(cls, body, created=moment(body.get("created")), ready=moment(body.get("ready")))


@dataclass(frozen=True, slots=True)
class Deployment:
    """A named slot of a group pointing at a release, with its share of the traffic in percent."""

    release: int
    traffic: int


@dataclass(frozen=True, slots=True)
class Deployments:
    """The deployments of a group and the `etag` that a conditional change names.

    `kind` says what a change was: promote, rollback, or same; `withdrawn` how many versions a rollback withdrew.
    """

    deployments: Mapping[str, Deployment]
    etag: str | None = None
    kind: str | None = None
    withdrawn: int = 0

    @classmethod
    def from_json(cls, body: Any, etag: str | None = None) -> "Deployments":
        """Read the JSON form."""
        given = body.get("deployments", {})
        return pick(cls, body, deployments={name: pick(Deployment, each) for name, each in given.items()}, etag=etag)

    @property
    def live(self) -> int | None:
        """The release that answers by default, None if nothing is live."""
        blue = self.deployments.get("blue")
        return None if blue is None else blue.release


@dataclass(frozen=True, slots=True)
class Hold:
    """A standing rule for one key; `until` None is without end."""

    key: str
    action: str
    version: int | None
    reason: str
    author: str
    created: datetime | None
    until: datetime | None

    @classmethod
    def from_json(cls, body: Any) -> "Hold":
        """Read the JSON form."""
        return pick(cls, body, created=moment(body.get("created")), until=moment(body.get("until")))


@dataclass(frozen=True, slots=True)
class Reject:
    """A row of an import that no version was made of."""

    row: int
    key: str | None
    code: str
    detail: str
    field: str | None = None

    @classmethod
    def from_json(cls, body: Any) -> "Reject":
        """Read the JSON form."""
        return pick(cls, body)


@dataclass(frozen=True, slots=True)
class Import:
    """A bulk import: `state` is queued, proving, publishing, done or failed; the counts are rows of the file."""

    number: int
    state: str
    on_error: str
    rows: int
    proved: int
    registered: int
    unchanged: int
    rejected: int
    release: int | None
    error: Mapping[str, Any] | None
    created: datetime | None
    finished: datetime | None

    @classmethod
    def from_json(cls, body: Any) -> "Import":
        """Read the JSON form."""
        return pick(
            cls,
            body,
            number=body.get("import"),
            created=moment(body.get("created")),
            finished=moment(body.get("finished")),
        )

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed")
