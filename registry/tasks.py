"""Tasks: work for builders, claimed under a fence so that a builder that was given up cannot finish it any more.

A task is queued, running under a claimant, done or failed. A running task whose claimant no longer lives may be
claimed anew; every claim raises the fence, and only the newest claim may finish.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from registry import task_queries as queries
from registry.errors import TaskNotFoundError
from registry.groups import find_group
from registry.keys import PartitionKey
from registry.records import Group, Task, TaskKind
from registry.rows import dump_json


def enqueue(conn: Connection, kind: TaskKind, group: Group | str, payload: Mapping[str, Any], now: float) -> int:
    """Queue a task; answers its number.

    Raises:
        GroupNotFoundError: if there is no such group.
    """
    group = find_group(conn, group)
    row = {"group_id": group.id, "group": group.name, "kind": kind, "payload": dump_json(payload), "created": now}
    return int(conn.execute(queries.INSERT_TASK, row | {"state": "queued", "fence": 0}).scalar_one())


def enqueue_auto_release(
    conn: Connection, group: Group | str, named: Sequence[tuple[PartitionKey, int]], now: float
) -> int:
    """Queue the release of named versions, together with those of one that is still queued; answers its number.

    Of several versions of one key the last one named counts.
    """
    group = find_group(conn, group)
    more = {key.text: number for key, number in named}
    queued = _queued_auto_release(conn, group)
    if queued is None:
        return enqueue(conn, "release", group, _auto_payload(more), now)
    number, payload = queued
    values = {"task": number, "payload": dump_json(_auto_payload(dict(payload["set"]) | more))}
    conn.execute(queries.CHANGE_PAYLOAD, values)
    return number


def _queued_auto_release(conn: Connection, group: Group) -> tuple[int, Mapping[str, Any]] | None:
    rows = conn.execute(queries.QUEUED_RELEASES, {"group": group.id})
    queued = ((row.id, orjson.loads(row.payload)) for row in rows)
    return next(((number, payload) for number, payload in queued if payload.get("auto")), None)


def _auto_payload(named: Mapping[str, int]) -> dict[str, Any]:
    return {"auto": True, "set": [[text, number] for text, number in named.items()]}


def claimable(conn: Connection, alive: Collection[str], kinds: Collection[TaskKind]) -> bool:
    """Whether `claim` would find something: a read, for a builder that asks often."""
    return conn.execute(queries.NEXT_TASK, _choice(alive, kinds)).first() is not None


def claim(
    conn: Connection, claimant: str, alive: Collection[str], kinds: Collection[TaskKind], now: float
) -> Task | None:
    """Take the oldest task that is queued, or running under a claimant that is not `alive`; None if there is none."""
    row = conn.execute(queries.NEXT_TASK_LOCKED, _choice(alive, kinds)).first()
    if row is None:
        return None
    values = {"task": row.id, "claimant": claimant, "now": now}
    return _read(conn.execute(queries.CLAIM_TASK, values).one())


def _choice(alive: Collection[str], kinds: Collection[TaskKind]) -> dict[str, Any]:
    return {"kinds": list(kinds), "alive": list(alive)}


def finish(conn: Connection, task: Task, result: Mapping[str, Any], now: float | None = None) -> bool:
    """End a task well; False, and nothing changed, if another claim has taken it over."""
    return _end(conn, task, "done", result, now)


def fail(conn: Connection, task: Task, problem: Mapping[str, Any], now: float | None = None) -> bool:
    """End a task with a problem (`code`, `detail`, `field`, `row`); False if another claim has taken it over."""
    return _end(conn, task, "failed", problem, now)


def _end(conn: Connection, task: Task, state: str, result: Mapping[str, Any], now: float | None) -> bool:
    values = {"task": task.id, "held": task.fence, "state": state, "result": dump_json(result), "now": now}
    return conn.execute(queries.END_TASK, values).rowcount == 1


def holds_claim(conn: Connection, task: Task) -> bool:
    """Whether this claim is still the newest one: asked inside the transaction whose writes depend on it."""
    return conn.execute(queries.HELD_TASK, {"task": task.id, "held": task.fence}).first() is not None


def get_task(conn: Connection, number: int) -> Task:
    """One task. A failed one has its problem as `result`.

    Raises:
        TaskNotFoundError: if there is none (any more).
    """
    row = conn.execute(queries.TASK_BY_ID, {"task": number}).first()
    if row is None:
        raise TaskNotFoundError(f"there is no task {number}")
    return _read(row)


def prune(conn: Connection, before: float) -> int:
    """Forget tasks that ended before a time; answers how many."""
    return conn.execute(queries.PRUNE_TASKS, {"before": before}).rowcount


def _read(row: Row[Any]) -> Task:
    return Task(
        id=row.id,
        kind=row.kind,
        group=row.group,
        payload=orjson.loads(row.payload),
        state=row.state,
        fence=row.fence,
        result=None if row.result is None else orjson.loads(row.result),
        created=row.created,
    )
