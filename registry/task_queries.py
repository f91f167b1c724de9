"""The SQL of tasks, named."""

from typing import Final

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update

from registry.tables import tasks

TASK_BY_ID: Final = select(tasks).where(tasks.c.id == bindparam("task"))

HELD_TASK: Final = select(tasks.c.id).where(
    tasks.c.id == bindparam("task"), tasks.c.fence == bindparam("held"), tasks.c.state == "running"
)

INSERT_TASK: Final = insert(tasks).returning(tasks.c.id)

QUEUED_RELEASES: Final = (
    select(tasks.c.id, tasks.c.payload)
    .where(
        tasks.c.group_id == bindparam("group"),
        tasks.c.kind == "release",
        tasks.c.state == "queued",
    )
    .order_by(tasks.c.id)
)

CHANGE_PAYLOAD: Final = update(tasks).where(tasks.c.id == bindparam("task")).values(payload=bindparam("payload"))

NEXT_TASK: Final = (
    select(tasks.c.id)
    .where(
        tasks.c.kind.in_(bindparam("kinds", expanding=True)),
        or_(
            tasks.c.state == "queued",
            and_(tasks.c.state == "running", tasks.c.claimant.not_in(bindparam("alive", expanding=True))),
        ),
    )
    .order_by(tasks.c.id)
    .limit(1)
)

# Where a database has row locks, two builders that ask at once get two tasks.
NEXT_TASK_LOCKED: Final = NEXT_TASK.with_for_update(skip_locked=True)

CLAIM_TASK: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"))
    .values(state="running", claimant=bindparam("claimant"), fence=tasks.c.fence + 1, claimed=bindparam("now"))
    .returning(tasks)
)

END_TASK: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"), tasks.c.fence == bindparam("held"), tasks.c.state == "running")
    .values(
        state=bindparam("state"),
        result=bindparam("result"),
        finished=func.coalesce(bindparam("now"), tasks.c.claimed),
    )
)

PRUNE_TASKS: Final = delete(tasks).where(tasks.c.finished < bindparam("before"))
