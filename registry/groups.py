"""Groups: creating, finding and deleting the families that everything else belongs to."""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Row
from sqlalchemy.exc import SQLAlchemyError

from registry import queries
from registry.errors import (
    AwayError,
    ConfirmationError,
    GroupExistsError,
    GroupInvalidError,
    GroupNotFoundError,
    SignatureInvalidError,
)
from registry.keys import KeySchema
from registry.records import DEFAULT_POOL, DEFAULT_REPLICAS, Group
from registry.revision import bump
from registry.rows import dump_json, read_group, write_definition
from registry.signature import RESERVED_OUTPUTS, Signature

log = logging.getLogger("manymodels.registry")

T = TypeVar("T")

MAX_REPLICAS: Final = 64

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def create_group(
    conn: Connection,
    name: str,
    schema: KeySchema,
    signature: Signature,
    *,
    auto_release: bool,
    now: float,
    replicas: int = DEFAULT_REPLICAS,
    pool: str = DEFAULT_POOL,
) -> Group:
    """Create a group, whose shards are held by so many seats of a pool of workers.

    Raises:
        GroupInvalidError: if the name, `replicas` or `pool` is illegal.
        SignatureInvalidError: if an output has the name of a column that every Arrow answer has.
        GroupExistsError: if there is one of this name, whatever its definition.
    """
    if not _NAME.fullmatch(name):
        raise GroupInvalidError(
            f"{name[:80]!r} is no group name: 1 to 63 of a-z, 0-9, '.', '_' and '-', first a letter or digit",
            field="name",
        )
    _check_outputs(signature)
    _check_placement(replicas, pool)
    if conn.execute(queries.GROUP_BY_NAME, {"name": name}).first() is not None:
        raise GroupExistsError(f"there is a group {name!r} already", field="name")
    row = {"name": name, "definition": write_definition(schema, signature), "auto_release": auto_release}
    row |= {"replicas": replicas, "pool": pool, "created": now}
    conn.execute(queries.INSERT_GROUP, row | queries.NEW_GROUP_COUNTERS)
    bump(conn)
    return get_group(conn, name)


def place_group(conn: Connection, name: str, *, replicas: int | None = None, pool: str | None = None) -> Group:
    """Change how many seats hold each shard of a group, or of which pool they are; None leaves it as it is.

    Raises:
        GroupNotFoundError: if there is none.
        GroupInvalidError: if `replicas` or `pool` is illegal.
    """
    group = get_group(conn, name)
    placed = replace(
        group, replicas=group.replicas if replicas is None else replicas, pool=group.pool if pool is None else pool
    )
    _check_placement(placed.replicas, placed.pool)
    if placed != group:
        conn.execute(queries.PLACE_GROUP, {"of_group": group.id, "replicas": placed.replicas, "pool": placed.pool})
        bump(conn)
    return placed


def _check_placement(replicas: int, pool: str) -> None:
    if not 1 <= replicas <= MAX_REPLICAS:
        raise GroupInvalidError(f"replicas is a number from 1 to {MAX_REPLICAS}, got {replicas}", field="replicas")
    if not _NAME.fullmatch(pool):
        raise GroupInvalidError(
            f"{pool[:80]!r} is no pool's name: 1 to 63 of a-z, 0-9, '.', '_' and '-', first a letter or digit",
            field="pool",
        )


def _check_outputs(signature: Signature) -> None:
    """A rule for new groups and not for reading: a home that has such a group already still opens."""
    for spec in signature.outputs:
        if spec.name in RESERVED_OUTPUTS:
            raise SignatureInvalidError(
                f"{spec.name!r} cannot name an output: Arrow answers have columns {sorted(RESERVED_OUTPUTS)}",
                field="outputs",
            )


def get_group(conn: Connection, name: str) -> Group:
    """The group of this name.

    Raises:
        GroupNotFoundError: if there is none.
    """
    row = conn.execute(queries.GROUP_BY_NAME, {"name": name}).first()
    if row is None:
        raise GroupNotFoundError(f"there is no group {name[:80]!r}", field="group")
    return read_group(row)


def find_group(conn: Connection, group: Group | str) -> Group:
    """The group that a caller names or has read already. Raises as `get_group`."""
    return group if isinstance(group, Group) else get_group(conn, group)


def list_groups(conn: Connection) -> list[Group]:
    """All groups, by name; raises if one cannot be read. See `each_group` for who can go on without it."""
    return [read_group(row) for row in conn.execute(queries.ALL_GROUPS)]


def each_group(conn: Connection, read: Callable[[Group], T]) -> tuple[list[T], list[str]]:
    """What `read` makes of every group, by name; and the names of those of which the registry says what makes no sense.

    Rows that nobody of ours wrote keep one group from being read, never the others; the log has why. What `read` raises
    of a database that is away is raised.
    """
    found, unreadable = [], []
    for row in conn.execute(queries.ALL_GROUPS).all():
        try:
            found.append(read(read_group(row)))
        except (SQLAlchemyError, AwayError):
            raise
        except Exception:  # whatever a parser or a check says of such a row
            log.exception("what the registry says of the group %r cannot be read", row.name)
            unreadable.append(row.name)
    return found, unreadable


def delete_group(conn: Connection, name: str, *, confirm: str | None) -> None:
    """Delete a group with everything in it; work under way for it fails. Its name is free at once.

    What it leaves behind is purged bit by bit by `registry.retention.purge_groups`.

    Raises:
        GroupNotFoundError: if there is none.
        ConfirmationError: unless `confirm` repeats the name.
    """
    group = get_group(conn, name)
    if confirm != name:
        raise ConfirmationError(f"deleting {name!r} with all its models needs confirm={name}", field="confirm")
    problem = {"code": GroupNotFoundError.code, "detail": f"the group {name!r} was deleted"}
    conn.execute(queries.FORGET_GROUP, {"of_group": group.id})
    conn.execute(queries.FAIL_TASKS_OF_GROUP, {"of_group": group.id, "problem": dump_json(problem)})
    bump(conn)


def lock_group(conn: Connection, group: Group) -> Row[Any]:
    """The group's row with its counters, held against other writers until the transaction ends.

    Raises:
        GroupNotFoundError: if it was deleted since it was read.
    """
    row = conn.execute(queries.LOCK_GROUP, {"id": group.id}).first()
    if row is None:
        raise GroupNotFoundError(f"there is no group {group.name!r}", field="group")
    return row
