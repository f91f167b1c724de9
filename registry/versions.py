"""Model versions: numbered by key, found by their head, in an order that only grows.

A version is never changed: a key moves on by another version, and goes by a tombstone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from registry import queries, release_queries
from registry.batches import in_batches
from registry.errors import KeyFieldUnknownError, VersionNotFoundError
from registry.groups import find_group, lock_group
from registry.keys import KeySchema, PartitionKey, key_id, quoted, slot_of
from registry.live_periods import LivePeriod, contents_of, live_periods
from registry.pages import Page, checked_limit, cut_page, not_a_cursor, read_cursor
from registry.records import Group, NewVersion, Version
from registry.rows import read_version, version_columns
from registry.version_rows import AddedRow, Head, plan_versions, read_heads, write_versions
from registry.withdrawal import read_bases

FALLBACK_SLOT: Final = -1
_TOMBSTONE: Final[Mapping[str, Any]] = {
    "digest": None,
    "runtime": None,
    "size": 0,
    "heap": 0,
    "bundle": None,
    "offset": 0,
    "length": 0,
    "verdict": "unknown",
    "pack_length": 0,
    "pack_size": 0,
    "meta": "{}",
}


@dataclass(frozen=True, slots=True)
class AddedVersion:
    """A version that was added, or (`created` false) the newest one, which has the same digest."""

    version: Version
    created: bool


@dataclass(frozen=True, slots=True)
class VersionHistory:
    """A version, and the spans of time in which it was live."""

    version: Version
    live: tuple[LivePeriod, ...]


def add_versions(conn: Connection, group: Group | str, new: Sequence[NewVersion], now: float) -> list[AddedVersion]:
    """Register proved artifacts, in order; a key may come more than once.

    Raises:
        GroupNotFoundError: if the group is gone.
    """
    group = find_group(conn, group)
    last = lock_group(conn, group).sequence
    texts = [item.key.text for item in new]
    identities = [key_id(text) for text in texts]
    heads = read_heads(conn, group, identities)
    plan = plan_versions(heads, zip(identities, (item.digest for item in new), strict=True), last)
    write_versions(
        conn,
        group,
        heads,
        [
            AddedRow(
                text, identity, slot_for(group.schema, item.key, identity), head, version_columns(item), item.meta.tags
            )
            for item, text, identity, (head, created) in zip(new, texts, identities, plan, strict=True)
            if created
        ],
        now,
    )
    unchanged = _by_sequence(
        conn, group, [head.sequence for head, created in plan if not created and head.sequence <= last]
    )
    made: dict[int, Version] = {}
    added = []
    for item, (head, created) in zip(new, plan, strict=True):
        if created:
            made[head.sequence] = _version(item, head, now)
        added.append(AddedVersion(unchanged.get(head.sequence) or made[head.sequence], created))
    return added


def delete_key(conn: Connection, group: Group | str, key: PartitionKey, now: float) -> Version:
    """Add a tombstone version, which takes the key's model out of the next release; a second one is not added.

    Raises:
        VersionNotFoundError: if the key never had a model.
    """
    group = find_group(conn, group)
    last = lock_group(conn, group).sequence
    identity = key.id
    heads = read_heads(conn, group, [identity])
    if identity not in heads:
        raise VersionNotFoundError(f"{key.text!r} has no model")
    [(head, created)] = plan_versions(heads, [(identity, None)], last)
    if created:
        slot = slot_for(group.schema, key, identity)
        write_versions(conn, group, heads, [AddedRow(key.text, identity, slot, head, _TOMBSTONE, {})], now)
    return _by_sequence(conn, group, [head.sequence])[head.sequence]


def slot_for(schema: KeySchema, key: PartitionKey, identity: bytes) -> int:
    """The slot of a key, -1 for a partial one."""
    if len(key.pairs) < len(schema.fields):
        return FALLBACK_SLOT
    return slot_of(identity) if schema.shard_by == schema.fields else schema.slot(key)


def newest(conn: Connection, group: Group | str, key: PartitionKey) -> Version | None:
    """The newest version of a key, which may be a tombstone or withdrawn; None if it never had one."""
    group = find_group(conn, group)
    row = conn.execute(queries.NEWEST_OF_KEY, {"group": group.id, "key_id": key.id}).first()
    return None if row is None else read_version(row)


def get_version(conn: Connection, group: Group | str, key: PartitionKey, number: int) -> Version:
    """One version of a key.

    Raises:
        VersionNotFoundError: if there is none of this number (any more).
    """
    group = find_group(conn, group)
    values = {"group": group.id, "key_id": key.id, "number": number}
    row = conn.execute(queries.VERSION_BY_NUMBER, values).first()
    if row is None:
        raise VersionNotFoundError(f"{key.text!r} has no version {number}")
    return read_version(row)


def count_heads(conn: Connection, group: Group | str) -> int:
    """How many keys of the group have a model registered (tombstones not counted)."""
    group = find_group(conn, group)
    return int(conn.execute(queries.COUNT_MODELS, {"id": group.id}).scalar_one())


def list_heads(
    conn: Connection,
    group: Group | str,
    *,
    where: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[Version]:
    """The newest version of every key that has a model, by key text, 1 to 1000 a page.

    `where` gives values of key fields, which partial keys match by the fields they have; `tags` must all be carried
    by the newest version; `cursor` is the previous page's.

    Raises:
        KeyFieldUnknownError: if `where` names no key field.
        CursorInvalidError: if the cursor is not of this listing.
    """
    group = find_group(conn, group)
    limit = checked_limit(limit)
    after = None if cursor is None else _cursor_key(conn, group, cursor)
    pieces, prefix = _pieces(group.schema, where or {})
    statement = queries.heads_page(pieces, prefix, tags or {}, after, limit + 1)
    found = [read_version(row) for row in conn.execute(statement, {"group": group.id})]
    return cut_page(found, limit, lambda version: version.key.id)


def history(conn: Connection, group: Group | str, key: PartitionKey) -> list[VersionHistory]:
    """All versions of a key, newest first, and when each was live.

    Raises:
        VersionNotFoundError: if the key never had a model.
    """
    group = find_group(conn, group)
    values = {"group": group.id, "key_id": key.id}
    versions = [read_version(row) for row in conn.execute(queries.VERSIONS_OF_KEY, values)]
    if not versions:
        raise VersionNotFoundError(f"{key.text!r} has no model")
    changes = {row.release: row.sequence for row in conn.execute(release_queries.CHANGES_OF_KEY, values)}
    held = contents_of(read_bases(conn, group.id), changes)
    periods = (
        LivePeriod(row.name, row.release, row.started, row.ended)
        for row in conn.execute(release_queries.PERIODS, {"group": group.id})
    )
    live = live_periods(held, periods)
    return [VersionHistory(version, live.get(version.sequence, ())) for version in versions]


def _cursor_key(conn: Connection, group: Group, cursor: str) -> str:
    values = {"group": group.id, "key_id": read_cursor(cursor, 16)}
    text: str | None = conn.execute(queries.KEY_TEXT, values).scalar_one_or_none()
    if text is None:
        raise not_a_cursor(cursor)
    return text


def _pieces(schema: KeySchema, where: Mapping[str, str]) -> tuple[list[str], str]:
    """The `field=value` texts a key must have, in field order, and the text it must begin with."""
    unknown = [field for field in where if field not in schema.fields]
    if unknown:
        raise KeyFieldUnknownError(
            f"{unknown[0]!r} is no key field; the key fields are {list(schema.fields)}", field=unknown[0]
        )
    pieces = [f"{field}={quoted(where[field])}" for field in schema.fields if field in where]
    leading = next((n for n, field in enumerate(schema.fields) if field not in where), len(schema.fields))
    return pieces, "/".join(pieces[:leading])


def _by_sequence(conn: Connection, group: Group, sequences: Sequence[int]) -> dict[int, Version]:
    versions = {}
    for batch in in_batches(sequences):
        rows = conn.execute(queries.VERSIONS_BY_SEQUENCE, {"group": group.id, "sequences": batch})
        versions.update({row.sequence: read_version(row) for row in rows})
    return versions


def _version(new: NewVersion, head: Head, now: float) -> Version:
    return Version(
        key=new.key,
        number=head.number,
        sequence=head.sequence,
        digest=new.digest,
        runtime=new.runtime,
        size=new.size,
        heap=new.heap,
        place=new.place,
        meta=new.meta,
        withdrawn=False,
        created=now,
        packing=new.packing,
    )
