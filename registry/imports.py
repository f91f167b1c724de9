"""Bulk imports: what has been read and proved so far, what was rejected, and publishing it all as versions.

Proved rows wait where no listing and no release sees them, so an import that is refused as a whole leaves nothing
behind, and one whose builder died goes on after its last checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from sqlalchemy import Connection, Row

from registry import import_queries as queries
from registry.batches import write_rows
from registry.errors import ImportNotFoundError, ImportStateError
from registry.groups import find_group, lock_group
from registry.pages import Page, checked_limit, cut_page, read_cursor
from registry.records import Group, Import, ImportState, NewVersion
from registry.rows import dump_json, read_new_version, version_columns
from registry.tasks import enqueue
from registry.versions import add_versions

_PLACE: Final = 8  # bytes of a reject's cursor


@dataclass(frozen=True, slots=True)
class Reject:
    """A row of an import that is no version: its number in the file, its key if that could be read, and the problem."""

    row: int
    key: str | None
    code: str
    detail: str
    field: str | None


def create_import(
    conn: Connection,
    group: Group | str,
    *,
    source: str,
    digest: str,
    on_error: Literal["fail", "skip"],
    runtime: str | None,
    now: float,
) -> Import:
    """Begin an import and queue its task. The same file under the same options while its import goes on is that import.

    `source` is the staged upload and `digest` its SHA-256; an import found instead of begun has another source.
    """
    group = find_group(conn, group)
    lock_group(conn, group)
    like = {"of_group": group.id, "digest": digest, "on_error": on_error, "runtime": runtime}
    unfinished = conn.execute(queries.UNFINISHED_LIKE, like).first()
    if unfinished is not None:
        return _read(unfinished, group.name)
    number = int(conn.execute(queries.COUNT_IMPORT, {"of_group": group.id}).scalar_one())
    row = {
        "group_id": group.id,
        "number": number,
        "state": "queued",
        "on_error": on_error,
        "source": source,
        "digest": digest,
        "runtime": runtime,
        "created": now,
    }
    counters = ("rows", "proved", "registered", "unchanged", "rejected", "waiting")
    conn.execute(queries.INSERT_IMPORT, row | dict.fromkeys(counters, 0))
    enqueue(conn, "import", group, {"import": number, "runtime": runtime, "on_error": on_error}, now)
    return get_import(conn, group, number)


def checkpoint(
    conn: Connection,
    group: Group | str,
    number: int,
    *,
    staged: Sequence[tuple[int, NewVersion]],
    rejects: Sequence[Reject],
    rows: int,
    proved: int,
) -> None:
    """Note what became of the next rows of the file, in order.

    `rows` is how far the file has been read and where a resumed import goes on; `proved` is how many of these rows were
    proved. A checkpoint that goes no farther than an earlier one changes nothing: repeating one does no harm.

    Raises:
        ImportNotFoundError: if there is no such import.
        ImportStateError: if it is being published, or has ended.
    """
    group = find_group(conn, group)
    if rows <= _row_in(conn, group, number, "queued", "proving").rows:
        return
    same = {"group_id": group.id, "import": number}
    write_rows(
        conn,
        queries.INSERT_ROWS,
        [{**same, "row": row, "key": item.key.text, **version_columns(item)} for row, item in staged],
    )
    write_rows(
        conn,
        queries.INSERT_REJECTS,
        [
            {**same, "row": item.row, "key": item.key, "code": item.code, "detail": item.detail, "field": item.field}
            for item in rejects
        ],
    )
    more = {"more_proved": proved, "more_waiting": len(staged), "more_rejected": len(rejects)}
    conn.execute(queries.NOTE_PROVED, {**_this(group, number), **more, "rows": rows})


def resume_row(conn: Connection, group: Group | str, number: int) -> int:
    """The row of the file to go on with: the first that no checkpoint covers, 0 for a new import.

    Raises:
        ImportNotFoundError: if there is no such import.
    """
    return int(_row(conn, find_group(conn, group), number).rows)


def publish(conn: Connection, group: Group | str, number: int, limit: int, now: float) -> int:
    """Make versions of the next `limit` rows that wait; answers how many still do.

    Raises:
        ImportNotFoundError: if there is no such import.
        ImportStateError: if it has ended.
    """
    group = find_group(conn, group)
    row = _row_in(conn, group, number, "queued", "proving", "publishing")
    this = _this(group, number)
    waiting = conn.execute(queries.NEXT_ROWS, this | {"most": limit}).all()
    added = add_versions(conn, group, [read_new_version(item) for item in waiting], now)
    created = sum(item.created for item in added)
    more = {"more_registered": created, "more_unchanged": len(added) - created, "taken": len(added)}
    conn.execute(queries.NOTE_PUBLISHED, this | more)
    if waiting:
        conn.execute(queries.DROP_ROWS_THROUGH, this | {"last": waiting[-1].row})
    return int(row.waiting) - len(waiting)


def finish_import(conn: Connection, group: Group | str, number: int, *, release: int | None, now: float) -> Import:
    """End an import well; `release` is the one it led to, if any.

    Raises:
        ImportNotFoundError: if there is no such import.
        ImportStateError: if it has ended, or rows still wait.
    """
    group = find_group(conn, group)
    waiting = _row_in(conn, group, number, "queued", "proving", "publishing").waiting
    if waiting:
        raise ImportStateError(f"{waiting} rows of import {number} still wait to be published")
    return _end(conn, group, number, {"state": "done", "release": release, "error": None, "now": now})


def fail_import(conn: Connection, group: Group | str, number: int, error: Mapping[str, Any], now: float) -> Import:
    """End an import with a problem (`code`, `detail`, `field`, `row`); rows that wait are forgotten, rejects stay.

    Raises:
        ImportNotFoundError: if there is no such import.
        ImportStateError: if it has ended.
    """
    group = find_group(conn, group)
    _row_in(conn, group, number, "queued", "proving", "publishing")
    conn.execute(queries.DROP_ROWS, _this(group, number))
    return _end(conn, group, number, {"state": "failed", "release": None, "error": dump_json(error), "now": now})


def _end(conn: Connection, group: Group, number: int, end: Mapping[str, Any]) -> Import:
    conn.execute(queries.END_IMPORT, {**_this(group, number), **end})
    return get_import(conn, group, number)


def get_import(conn: Connection, group: Group | str, number: int) -> Import:
    """One import.

    Raises:
        ImportNotFoundError: if the group has none of this number.
    """
    group = find_group(conn, group)
    return _read(_row(conn, group, number), group.name)


def list_imports(conn: Connection, group: Group | str) -> list[Import]:
    """All imports of a group, newest first."""
    group = find_group(conn, group)
    return [_read(row, group.name) for row in conn.execute(queries.IMPORTS, {"of_group": group.id}).all()]


def list_rejects(conn: Connection, group: Group | str, number: int, limit: int, cursor: str | None) -> Page[Reject]:
    """The rejected rows of an import, by row, 1 to 1000 a page.

    Raises:
        ImportNotFoundError: if the group has no import of this number.
        CursorInvalidError: if the cursor is not of this listing.
    """
    group = find_group(conn, group)
    _row(conn, group, number)
    limit = checked_limit(limit)
    after = -1 if cursor is None else int.from_bytes(read_cursor(cursor, _PLACE), "big", signed=True)
    rows = conn.execute(queries.REJECTS, _this(group, number) | {"after": after, "most": limit + 1}).all()
    found = [Reject(row.row, row.key, row.code, row.detail, row.field) for row in rows]
    return cut_page(found, limit, lambda reject: reject.row.to_bytes(_PLACE, "big", signed=True))


def _this(group: Group, number: int) -> dict[str, Any]:
    return {"of_group": group.id, "of_import": number}


def _row(conn: Connection, group: Group, number: int) -> Row[Any]:
    row = conn.execute(queries.IMPORT, _this(group, number)).first()
    if row is None:
        raise ImportNotFoundError(f"{group.name!r} has no import {number}", field="import")
    return row


def _row_in(conn: Connection, group: Group, number: int, *states: ImportState) -> Row[Any]:
    lock_group(conn, group)
    row = _row(conn, group, number)
    if row.state not in states:
        raise ImportStateError(f"import {number} is {row.state} already")
    return row


def _read(row: Row[Any], group: str) -> Import:
    return Import(
        number=row.number,
        group=group,
        state=row.state,
        on_error=row.on_error,
        source=row.source,
        rows=row.rows,
        proved=row.proved,
        registered=row.registered,
        unchanged=row.unchanged,
        rejected=row.rejected,
        release=row.release,
        error=None if row.error is None else orjson.loads(row.error),
        created=row.created,
        finished=row.finished,
    )
