"""Writing versions: decide over the heads as a pure function, then write whole batches of rows.

The head of a key is its newest version; the group's last sequence number orders all versions of the group. Callers
hold the group's lock from before the heads are read until the transaction ends.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from registry import queries
from registry.batches import in_batches, write_rows
from registry.records import Group


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version of a key, as far as the next one depends on it; no digest is a tombstone."""

    number: int
    sequence: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class AddedRow:
    """A row about to be written: its key's text, identity and slot, its head, and its other columns."""

    text: str
    identity: bytes
    slot: int
    head: Head
    columns: Mapping[str, Any]
    tags: Mapping[str, str]


def plan_versions(
    heads: Mapping[bytes, Head], wanted: Iterable[tuple[bytes, str | None]], last: int
) -> list[tuple[Head, bool]]:
    """Decide, in order, what becomes of each `(identity, digest)`: its head, and whether that is a new version.

    The same digest as the key's newest version is no new version; whatever else came last, a tombstone included, is
    followed by the next number. `last` is the group's last sequence number.
    """
    now = dict(heads)
    plan = []
    for identity, digest in wanted:
        head = now.get(identity)
        created = head is None or head.digest != digest
        if created:
            last += 1
            head = now[identity] = Head((head.number if head else 0) + 1, last, digest)
        assert head is not None
        plan.append((head, created))
    return plan


def read_heads(conn: Connection, group: Group, identities: Sequence[bytes]) -> dict[bytes, Head]:
    """The heads of those keys that have one, by identity."""
    heads = {}
    for batch in in_batches(identities):
        rows = conn.execute(queries.HEADS_BY_KEY, {"group": group.id, "key_ids": batch})
        heads.update({row.key_id: Head(row.number, row.sequence, row.digest) for row in rows})
    return heads


def write_versions(
    conn: Connection, group: Group, before: Mapping[bytes, Head], added: Sequence[AddedRow], now: float
) -> None:
    """Write version rows, their tags and the heads they become; the last of a key's rows is its head."""
    if not added:
        return
    same = {"group_id": group.id, "created": now}
    rows = [
        {**item.columns, **same, "key_id": item.identity, "number": item.head.number, "sequence": item.head.sequence}
        for item in added
    ]
    write_rows(conn, queries.INSERT_VERSIONS, rows)
    tags = [
        {"group_id": group.id, "name": name, "value": value, "key": item.text, "sequence": item.head.sequence}
        for item in added
        for name, value in item.tags.items()
    ]
    write_rows(conn, queries.INSERT_TAGS, tags)
    last = {item.identity: item for item in added}
    _write_heads(conn, group, before, last.values())
    more = sum(_counts(item.head) - _counts(before.get(identity)) for identity, item in last.items())
    conn.execute(queries.COUNT_VERSIONS, {"of_group": group.id, "last": added[-1].head.sequence, "more": more})


def _counts(head: Head | None) -> int:
    return int(head is not None and head.digest is not None)


def _write_heads(conn: Connection, group: Group, before: Mapping[bytes, Head], last: Iterable[AddedRow]) -> None:
    fresh, moved = [], []
    for item in last:
        head = {"number": item.head.number, "sequence": item.head.sequence, "digest": item.head.digest}
        if item.identity in before:
            moved.append(head | {"of_group": group.id, "of_key": item.identity})
        else:
            fresh.append(head | {"group_id": group.id, "key_id": item.identity, "key": item.text, "slot": item.slot})
    write_rows(conn, queries.INSERT_HEADS, fresh)
    write_rows(conn, queries.MOVE_HEADS, moved)
