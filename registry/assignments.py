"""Assignments: which seats hold which shards of the groups of one pool, as rows that are only ever replaced whole.

A row is numbered, and whoever writes the next one names the number it decided on: of two that decide at once one
loses, looks again and decides anew. What a body says is discovery's affair; here it is text.
"""

from collections.abc import Mapping

from sqlalchemy import Connection

from registry import queries
from registry.revision import bump


def assignment_numbers(conn: Connection) -> Mapping[str, int]:
    """The number of each pool's assignment, by pool; what is small enough to ask with every look."""
    return {row.pool: row.number for row in conn.execute(queries.ASSIGNMENT_NUMBERS)}


def assignment_body(conn: Connection, pool: str) -> str:
    """The body of a pool's assignment, JSON text; `{}` for a pool that has none."""
    return conn.execute(queries.ASSIGNMENT_BODY, {"of_pool": pool}).scalar_one_or_none() or "{}"


def store_assignment(conn: Connection, pool: str, number_before: int, body: str) -> bool:
    """Store the next assignment of a pool; False, and nothing happens, if somebody else was faster.

    Args:
        conn: of a write transaction, so that nobody writes between the look and the write.
        pool: whose it is.
        number_before: of the assignment that this one follows, 0 for none; it is given the number after.
        body: JSON text.
    """
    if assignment_numbers(conn).get(pool, 0) != number_before:
        return False
    values = {"number": number_before + 1, "body": body}
    if number_before:
        conn.execute(queries.REPLACE_ASSIGNMENT, {"of_pool": pool, **values})
    else:
        conn.execute(queries.INSERT_ASSIGNMENT, {"pool": pool, **values})
    bump(conn)
    return True
