"""Many rows at once: compiled once for a dialect and handed to the driver as they are.

SQLAlchemy's own `executemany` builds a dictionary and runs type conversions for every row, which costs more than
writing the row. Values here are only text, numbers, bytes and None, which every driver takes unchanged.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Dialect, Insert, Update

PARAMETERS: Final = 5000  # values of one IN list

T = TypeVar("T")


def write_rows(conn: Connection, statement: Insert | Update, rows: Sequence[Mapping[str, Any]]) -> None:
    """Run a statement once for each row; all rows have the same names (columns of an INSERT, parameters otherwise)."""
    if not rows:
        return
    sql, order = _compiled(conn.dialect, statement, tuple(rows[0]))
    pick = itemgetter(*order) if order else dict
    conn.exec_driver_sql(sql, [pick(row) for row in rows])


@lru_cache(maxsize=64)
def _compiled(dialect: Dialect, statement: Insert | Update, names: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """SQL text, and the order of the parameters where the driver takes them by position."""
    columns = list(names) if isinstance(statement, Insert) else None
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    return str(compiled), tuple(compiled.positiontup or ()) if compiled.positional else ()


def in_batches(items: Sequence[T], size: int = PARAMETERS) -> Iterable[Sequence[T]]:
    """The items in runs that fit into one statement."""
    return (items[start : start + size] for start in range(0, len(items), size))
