"""Releases: beginning one, reading what it changes, and ending its building.

A release is its base plus changes. What changes is decided and written down in the transaction that begins it, so
that whatever is registered while it is being built belongs to the next one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row

from registry import release_queries as queries
from registry.batches import in_batches
from registry.errors import ReleaseNotFoundError, ReleaseStateError, VersionNotFoundError
from registry.groups import find_group, lock_group
from registry.keys import PartitionKey
from registry.records import Group, Release, Version
from registry.rows import dump_json, read_release, read_version
from registry.withdrawal import chain_of

_STREAMED_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """What a release changes a key to; a tombstone version takes the key out."""

    key: PartitionKey
    version: Version


@dataclass(frozen=True, slots=True)
class _Base:
    """What a release is built upon: nothing, where number is None."""

    number: int | None = None
    through: int = 0
    seen: int = 0


def begin_release(
    conn: Connection,
    group: Group | str,
    *,
    base: int | None,
    named: Sequence[tuple[PartitionKey, int]] | None,
    gates: Mapping[str, int],
    now: float,
) -> Release:
    """Begin a release: its row, in state building, and its changes against the base.

    Without a base it is the live release, or nothing. Without named versions the changes are, for every key, the
    newest version that is not withdrawn and that the base took no notice of. Named ones are withdrawn no more; of
    several versions of one key the last named counts. Keys under `freeze` stay as the base has them, keys under `pin`
    get the version they are pinned to.

    Raises:
        ReleaseNotFoundError, ReleaseStateError: if the base does not exist or is not ready.
        VersionNotFoundError: if a named version does not exist.
    """
    group = find_group(conn, group)
    counters = lock_group(conn, group)
    upon = _base(conn, group, base)
    number = int(conn.execute(queries.COUNT_RELEASE, {"of_group": group.id}).scalar_one())
    row = {
        "group_id": group.id,
        "number": number,
        "state": "building",
        "base": upon.number,
        "through": upon.through if named is not None else counters.sequence,
        "seen": counters.sequence,
        "abandoned": 0,
        "restored": counters.moves if named is not None else 0,
        "manifest": None,
        "models": 0,
        "size": 0,
        "gates": dump_json(gates),
        "report": "{}",
        "created": now,
        "ready": None,
    }
    sequences = None if named is None else _named_sequences(conn, group, named)
    conn.execute(queries.INSERT_RELEASE, row)
    _write_changes(conn, group, row, upon, sequences)
    return get_release(conn, group, number)


def _base(conn: Connection, group: Group, number: int | None) -> _Base:
    if number is None:
        live = conn.execute(queries.DEPLOYMENTS, {"group": group.id}).first()
        if live is None:
            return _Base()
        number = live.release
    row = _row(conn, group, number)
    if row.state != "ready":
        raise ReleaseStateError(f"release {number} is {row.state}; only a ready one can be a base", field="base")
    return _Base(number, row.through, row.seen)


def _named_sequences(conn: Connection, group: Group, named: Sequence[tuple[PartitionKey, int]]) -> list[int]:
    asked = {key.id: (key, version) for key, version in named}
    found = {
        (row.key_id, row.number): row.sequence
        for batch in in_batches(list(asked))
        for row in conn.execute(queries.NUMBERED_VERSIONS, {"group": group.id, "key_ids": batch}).all()
    }
    for position, (key, version) in enumerate(named):
        if (key.id, version) not in found:
            raise VersionNotFoundError(f"{key.text!r} has no version {version}", field="set", row=position)
    return [found[identity, version] for identity, (_, version) in asked.items()]


def _write_changes(
    conn: Connection, group: Group, row: Mapping[str, Any], upon: _Base, sequences: Sequence[int] | None
) -> None:
    values = {
        "group": group.id,
        "release": row["number"],
        "base": upon.number,
        "base_seen": upon.seen,
        "now": row["created"],
    }
    if sequences is None:
        withdrawn = conn.execute(queries.WITHDRAWN_THROUGH, {"group": group.id}).scalar_one()
        span = {"after": upon.through, "through": row["through"], "withdrawn_through": withdrawn}
        conn.execute(queries.CHANGE_TO_NEWER, values | span)
    else:
        for batch in in_batches(sequences):
            conn.execute(queries.CHANGE_TO_NAMED, values | {"sequences": batch})
    conn.execute(queries.CHANGE_TO_PINNED, values)


def changed_slots(conn: Connection, group: Group | str, number: int) -> list[int]:
    """The slots in which a release changes keys, ascending; -1 stands for partial keys."""
    group = find_group(conn, group)
    return list(conn.execute(queries.CHANGED_SLOTS, {"group": group.id, "release": number}).scalars())


def changes(conn: Connection, group: Group | str, number: int, low: int, high: int) -> Iterator[Change]:
    """Stream what a release changes in the slots `low <= slot < high`, by slot and then by the keys' identity."""
    group = find_group(conn, group)
    values = {"group": group.id, "release": number, "low": low, "high": high}
    rows = conn.execute(queries.CHANGES, values, execution_options={"yield_per": _STREAMED_ROWS})
    for row in rows:
        version = read_version(row)
        yield Change(version.key, version)


def finish_release(
    conn: Connection,
    group: Group | str,
    number: int,
    *,
    manifest: str,
    models: int,
    size: int,
    report: Mapping[str, Any],
    blocked: bool,
    now: float,
    failed: Collection[PartitionKey] = (),
) -> Release:
    """End the building of a release: ready, or blocked by a gate.

    `failed` are keys whose changes could not be built in; their changes are struck out, so that the record says what
    the release holds: the base's versions.

    Raises:
        ReleaseNotFoundError, ReleaseStateError: if it is not being built (any more).
    """
    group = find_group(conn, group)
    state = "blocked" if blocked else "ready"
    end = {"state": state, "manifest": manifest, "models": models, "size": size, "ready": now}
    _end(conn, group, number, end | {"report": dump_json(report)})
    for batch in in_batches([key.id for key in failed]):
        conn.execute(queries.DROP_CHANGES, {"group": group.id, "release": number, "key_ids": batch})
    return get_release(conn, group, number)


def fail_release(
    conn: Connection, group: Group | str, number: int, report: Mapping[str, Any], now: float | None = None
) -> Release:
    """End the building of a release that cannot be built; `now` is when that was given up.

    Raises:
        ReleaseNotFoundError, ReleaseStateError: if it is not being built (any more).
    """
    group = find_group(conn, group)
    given_up = dict(report) if now is None else {**report, "failed_at": now}
    end = {"state": "failed", "manifest": None, "models": 0, "size": 0, "ready": None}
    _end(conn, group, number, end | {"report": dump_json(given_up)})
    return get_release(conn, group, number)


def _end(conn: Connection, group: Group, number: int, end: Mapping[str, Any]) -> None:
    ended = conn.execute(queries.END_RELEASE, {"of_group": group.id, "of_release": number, **end}).rowcount
    if not ended:
        state = _row(conn, group, number).state
        raise ReleaseStateError(f"release {number} is {state}, not being built", field="release")


def get_release(conn: Connection, group: Group | str, number: int) -> Release:
    """One release.

    Raises:
        ReleaseNotFoundError: if there is none of this number.
    """
    group = find_group(conn, group)
    return read_release(_row(conn, group, number), group.name)


def _row(conn: Connection, group: Group, number: int) -> Row[Any]:
    row = conn.execute(queries.RELEASE, {"group": group.id, "number": number}).first()
    if row is None:
        raise ReleaseNotFoundError(f"{group.name!r} has no release {number}", field="release")
    return row


def list_releases(conn: Connection, group: Group | str, limit: int | None = None) -> list[Release]:
    """The releases of a group, newest first: all, or the `limit` newest."""
    group = find_group(conn, group)
    statement = queries.RELEASES if limit is None else queries.RELEASES.limit(limit)
    return [read_release(row, group.name) for row in conn.execute(statement, {"group": group.id}).all()]


def base_chain(conn: Connection, group: Group | str, number: int) -> list[Release]:
    """A release and its bases, newest first.

    Raises:
        ReleaseNotFoundError: if there is none of this number.
    """
    group = find_group(conn, group)
    _row(conn, group, number)
    found = {release.number: release for release in list_releases(conn, group)}
    return [found[member] for member in chain_of({n: release.base for n, release in found.items()}, number)]
