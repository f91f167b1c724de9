"""Everything that only SQLite needs.

WAL so that readers never wait, `BEGIN IMMEDIATE` so that writers take the write lock before they look, and
`synchronous=FULL`, because a registration that was answered must survive power loss (NORMAL may lose the last commits
of a WAL).
"""

import fcntl
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

POLL_SECONDS: Final = 0.002
LOCKED: Final = "the database is locked by another writer; try again"

_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-16384",  # 16 MiB a connection: the random part of a batch's index pages
    "PRAGMA journal_size_limit=67108864",  # a WAL that grew under a long reader shrinks again
)
FULL: Final = "the disk that holds the database is full"
_AWAY: Final[Mapping[int, str]] = {  # SQLite's primary result codes that say: not now
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_PROTOCOL: LOCKED,
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_READONLY: "the database cannot be written",
    sqlite3.SQLITE_IOERR: "the disk that holds the database fails",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
}


class Sqlite:
    """A `registry.database.Backend` over one file.

    Attributes:
        queues: SQLite has no queue of writers, so whoever writes in long steps must pause between them.
    """

    queues = False

    def open_engine(self, url: str, busy_seconds: float, *, durable: bool) -> Engine:
        """An engine whose transactions follow the rules of this module."""
        engine = create_engine(
            url,
            connect_args={"timeout": busy_seconds, "isolation_level": None, "check_same_thread": False},
            pool_size=4,
            max_overflow=28,
            pool_timeout=busy_seconds,
        )

        @event.listens_for(engine, "connect")
        def _prepare(raw: sqlite3.Connection, _record: object) -> None:
            for pragma in _PRAGMAS:
                raw.execute(pragma)
            if not durable:
                raw.execute("PRAGMA synchronous=NORMAL")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            if connection.get_execution_options().get("manymodels_write"):
                _begin_immediate(connection, busy_seconds)
            else:
                connection.exec_driver_sql("BEGIN")

        return engine

    def reading(self, connection: Connection) -> Connection:
        """A connection whose next transaction reads one state."""
        return connection

    def version(self, raw: Any) -> int:
        """See https://www.sqlite.org/pragma.html#pragma_data_version."""
        [(number,)] = raw.cursor().execute("PRAGMA data_version").fetchall()
        return int(number)

    def why_away(self, error: DBAPIError) -> str | None:
        """In words, where an error says: not now."""
        if _code(error) == sqlite3.SQLITE_IOERR_SHMSIZE:  # no room to open it; told from a disk that fails
            return FULL
        return _AWAY.get(_primary_code(error))

    @contextmanager
    def migrating(self, url: str) -> Iterator[None]:
        """Hold `<database>.lock` beside the file."""
        with Path(f"{make_url(url).database}.lock").open("a", encoding="ascii") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _begin_immediate(connection: Connection, busy_seconds: float) -> None:
    """Take the write lock, asking every 2 ms: SQLite's own wait grows to 100 ms and starves beside a busy writer."""
    connection.exec_driver_sql("PRAGMA busy_timeout=0")
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            break
        except OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS)
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={int(busy_seconds * 1000)}")


def _primary_code(error: DBAPIError) -> int:
    return _code(error) & 0xFF


def _code(error: DBAPIError) -> int:
    origin: Any = error.orig
    return int(getattr(origin, "sqlite_errorcode", 0) or 0)
