"""Withdrawal: what a rollback takes back, told by marks on releases instead of flags on a million versions.

A version belongs to every release that introduced it (to whose changes it belongs). Rolling back from a release to an
earlier one abandons the releases that lie in the chain of bases of the former and not of the latter; what they
introduced is withdrawn, unless the chain of the release gone back to introduced it too. What goes live, and what is
named, is withdrawn no more.

Each change of the deployments is counted (`groups.moves`), and that count is the mark: `abandoned` on the releases
that a rollback abandons, `restored` on those that go live with it and on a release of named versions. A version is
withdrawn while the greatest `abandoned` of the releases that introduced it exceeds their greatest `restored`.
"""

from collections.abc import Mapping

from sqlalchemy import Connection

from registry import release_queries as queries
from registry.batches import write_rows


def chain_of(bases: Mapping[int, int | None], number: int | None) -> list[int]:
    """A release and its bases down to the first, greatest number first; empty for None."""
    chain = []
    while number is not None:
        chain.append(number)
        number = bases[number]
    return chain


def read_bases(conn: Connection, group_id: int) -> dict[int, int | None]:
    """The base of every release of a group."""
    return {row.number: row.base for row in conn.execute(queries.BASES, {"group": group_id}).all()}


def mark_promotion(conn: Connection, group_id: int, live: int | None, target: int, move: int) -> None:
    """What the target's chain introduced is withdrawn no more; what is live already was marked before."""
    bases = read_bases(conn, group_id)
    fresh = set(chain_of(bases, target)) - set(chain_of(bases, live))
    _mark(conn, group_id, fresh, restored=move)


def mark_rollback(conn: Connection, group_id: int, live: int, target: int, move: int) -> int:
    """Withdraw what the abandoned releases introduced and the target's chain did not; answers how many versions."""
    bases = read_bases(conn, group_id)
    kept = chain_of(bases, target)
    abandoned = set(chain_of(bases, live)) - set(kept)
    _mark(conn, group_id, abandoned, abandoned=move)
    _mark(conn, group_id, kept, restored=move)
    values = {"group": group_id, "move": move, "target": target}
    return int(conn.execute(queries.COUNT_WITHDRAWN, values).scalar_one())


def _mark(conn: Connection, group_id: int, numbers: set[int] | list[int], **mark: int) -> None:
    [(name, move)] = mark.items()
    statement = queries.MARK_ABANDONED if name == "abandoned" else queries.MARK_RESTORED
    rows = [{"of_group": group_id, "of_release": number, "move": move} for number in sorted(numbers)]
    write_rows(conn, statement, rows)
