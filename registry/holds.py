"""Holds: standing rules for one key. `disable` acts on requests at once; `pin` and `freeze` act on the next release."""

from typing import Any, Final, get_args

from sqlalchemy import Connection, Row

from registry import release_queries as queries
from registry.errors import HoldInvalidError, HoldNotFoundError
from registry.groups import find_group
from registry.keys import PartitionKey
from registry.records import Group, Hold, HoldAction
from registry.revision import bump
from registry.rows import stored_key
from registry.versions import get_version, slot_for

MAX_REASON: Final = 2000


def put_hold(
    conn: Connection,
    group: Group | str,
    key: PartitionKey,
    *,
    action: HoldAction,
    version: int | None,
    reason: str,
    author: str,
    until: float | None,
    now: float,
) -> Hold:
    """Put a hold on a key, in place of the one it has.

    Raises:
        HoldInvalidError: on an unknown action, a version where none belongs (or none on a pin), a pin to a tombstone,
            an overlong text, or an end that has passed.
        VersionNotFoundError: if the key has no version of a pin's number.
    """
    group = find_group(conn, group)
    _check(action, version, reason, author, until, now)
    if version is not None and get_version(conn, group, key, version).tombstone:
        raise HoldInvalidError(f"version {version} of {key.text!r} is a deletion; use disable", field="version")
    identity = key.id
    row = {
        "group_id": group.id,
        "key_id": identity,
        "key": key.text,
        "slot": slot_for(group.schema, key, identity),
        "action": action,
        "version": version,
        "reason": reason,
        "author": author,
        "created": now,
        "until": until,
    }
    conn.execute(queries.DROP_HOLD, {"group": group.id, "key_id": identity})
    conn.execute(queries.INSERT_HOLD, row)
    bump(conn)
    return Hold(key, action, version, reason, author, now, until)


def drop_hold(conn: Connection, group: Group | str, key: PartitionKey) -> None:
    """Lift the hold of a key. A key that was pinned or frozen moves on with its next version, or by naming one.

    Raises:
        HoldNotFoundError: if it has none.
    """
    group = find_group(conn, group)
    if not conn.execute(queries.DROP_HOLD, {"group": group.id, "key_id": key.id}).rowcount:
        raise HoldNotFoundError(f"{key.text!r} has no hold")
    bump(conn)


def list_holds(conn: Connection, group: Group | str, now: float) -> list[Hold]:
    """The holds in force at this time, by key text."""
    group = find_group(conn, group)
    return [_read(row) for row in conn.execute(queries.HOLDS, {"group": group.id, "now": now}).all()]


def _check(action: str, version: int | None, reason: str, author: str, until: float | None, now: float) -> None:
    if action not in get_args(HoldAction):
        raise HoldInvalidError(f"a hold is one of {list(get_args(HoldAction))}, got {action[:40]!r}", field="action")
    if (action == "pin") != (version is not None):
        raise HoldInvalidError("a pin names its version, no other hold does", field="version")
    for field, text in (("reason", reason), ("author", author)):
        if len(text) > MAX_REASON:
            raise HoldInvalidError(f"{field} has at most {MAX_REASON} characters, got {len(text)}", field=field)
    if until is not None and not until > now:
        raise HoldInvalidError("until has passed already", field="until")


def _read(row: Row[Any]) -> Hold:
    return Hold(
        key=stored_key(row.key),
        action=row.action,
        version=row.version,
        reason=row.reason,
        author=row.author,
        created=row.created,
        until=row.until,
    )
