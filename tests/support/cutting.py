"""Cutting a transaction's connection to PostgreSQL: after its n-th statement, or while its commit is not answered yet."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, event, insert, select

from deploy.local.servers import PostgresServer
from registry.database import Database
from registry.tables import metadata
from tests.support.waiting import until

# A server with these waits at each commit that is asked for with `synchronous_commit = on` for a machine that is not
# there, when the commit is on its own disk already; whoever is cut then hears nothing of it.
WITHOUT_STANDBY = ("-c", "synchronous_standby_names=nobody", "-c", "synchronous_commit=local")

TABLES = metadata.sorted_tables
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "


@dataclass
class Cut:
    """How many statements there were, and whether the cut came."""

    statements: int = 0
    made: bool = False


@contextmanager
def cut_after(server: PostgresServer, number: int) -> Iterator[Cut]:
    """Cut the connection of whoever executes the n-th statement in this process, when it is executed."""
    cut = Cut()

    def count(connection, *_):
        cut.statements += 1
        if cut.statements == number:
            assert server.execute(f"{_END} pid = {_pid(connection)}") == [(True,)]
            cut.made = True

    event.listen(Engine, "after_cursor_execute", count)
    try:
        yield cut
    finally:
        event.remove(Engine, "after_cursor_execute", count)


@contextmanager
def cut_at_commit(server: PostgresServer, statement: str = "advisory") -> Iterator[Cut]:
    """Cut the connection of this process's first transaction with such a statement: its commit is made, not answered."""
    cut = Cut()
    found: set[int | None] = set()
    watching: list[threading.Thread] = []

    def look(connection, _cursor, text, *_):
        if statement in text and _pid(connection) and not cut.made:
            found.add(_pid(connection))

    def wait(connection):
        if _pid(connection) in found and not cut.made:
            cut.made = True
            connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            waits = f"{_END} pid = {_pid(connection)} AND wait_event = 'SyncRep'"
            watching.append(threading.Thread(target=until, args=(lambda: server.execute(waits), 20, "the commit")))
            watching[0].start()

    event.listen(Engine, "after_cursor_execute", look)
    event.listen(Engine, "commit", wait)
    try:
        yield cut
    finally:
        event.remove(Engine, "after_cursor_execute", look)
        event.remove(Engine, "commit", wait)
        for thread in watching:
            thread.join()


def _pid(connection: Connection) -> int | None:
    """The id of its server process; None for another database."""
    return connection.connection.dbapi_connection.info.backend_pid if connection.dialect.name == "postgresql" else None


def rows_of(database: Database) -> dict[str, list[dict[str, object]]]:
    """All rows of all tables, in order."""
    with database.read() as conn:
        found = {table: conn.execute(select(table).order_by(*table.primary_key.columns)) for table in TABLES}
        return {table.name: [dict(row) for row in rows.mappings()] for table, rows in found.items()}


def put_back(database: Database, rows: Mapping[str, list[dict[str, object]]]) -> None:
    """Make a database hold these rows and no others."""
    with database.write() as conn:
        for table in reversed(TABLES):
            conn.execute(delete(table))
        for table in TABLES:
            if rows[table.name]:
                conn.execute(insert(table), rows[table.name])


def contents(database: Database) -> dict[str, list[dict[str, object]]]:
    """What a registry says: its rows, with a rank for each id that a sequence draws, which no cut gives back."""
    found = rows_of(database)
    groups = {row["id"]: rank for rank, row in enumerate(found["groups"])}
    for rows in found.values():
        for rank, row in enumerate(rows):
            if "id" in row:
                row["id"] = rank
            if "group_id" in row:
                row["group_id"] = groups[row["group_id"]]
    return found
