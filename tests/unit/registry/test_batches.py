from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from registry.batches import _compiled, in_batches, write_rows
from registry.tables import wanted


def test_rows_are_written_whatever_the_order_of_their_names(registry):
    group_id = registry.group.id
    rows = [{"until": float(n), "release": n, "group_id": group_id} for n in range(3)]
    moves = [{"to": 9.0, "of_release": 1}, {"to": 8.0, "of_release": 2}]
    with registry.database.write() as conn:
        write_rows(conn, insert(wanted), rows)
        write_rows(
            conn,
            update(wanted).where(wanted.c.release == bindparam("of_release")).values(until=bindparam("to")),
            moves,
        )
        found = conn.execute(select(wanted.c.release, wanted.c.until).order_by(wanted.c.release)).all()
    assert [tuple(row) for row in found] == [(0, 0.0), (1, 9.0), (2, 8.0)]


def test_no_rows_is_no_statement(registry):
    with registry.database.write() as conn:
        write_rows(conn, insert(wanted), [])


def test_a_driver_that_takes_names_gets_names():
    names = ("group_id", "release", "until")
    by_place, order = _compiled(sqlite.dialect(), insert(wanted), names)
    by_name, none = _compiled(postgresql.dialect(paramstyle="pyformat"), insert(wanted), names)
    assert (by_place.count("?"), order) == (3, names)
    assert ("%(until)s" in by_name, none) == (True, ())


def test_batches_together_are_the_whole():
    assert list(in_batches(list(range(7)), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(in_batches([], 3)) == []
