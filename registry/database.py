"""The one door to SQL: engines, transactions, and what a locked or full database means to a caller.

Readers see one consistent state for as long as they read; writers take the write lock before they look, so that what
they decide still holds when they write. Everything that only SQLite needs stands here: WAL so that readers never wait,
`BEGIN IMMEDIATE`, and `synchronous=FULL`, because a registration that was answered must survive power loss (NORMAL may
lose the last commits of a WAL).
"""

import fcntl
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection, create_engine, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from registry.errors import DatabaseBusyError, DatabaseTooNewError
from registry.turns import Turns

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS: Final = "registry:migrations"
POLL_SECONDS: Final = 0.002
LONG_SECONDS: Final = 0.02
PAUSE_SECONDS: Final = 0.006

_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-16384",  # 16 MiB a connection: the random part of a batch's index pages
    "PRAGMA journal_size_limit=67108864",  # a WAL that grew under a long reader shrinks again
)
_AWAY: Final = {  # SQLite's primary result codes that say: not now
    sqlite3.SQLITE_BUSY: "the database is locked by another writer; try again",
    sqlite3.SQLITE_LOCKED: "the database is locked by another writer; try again",
    sqlite3.SQLITE_PROTOCOL: "the database is locked by another writer; try again",
    sqlite3.SQLITE_FULL: "the disk that holds the database is full",
    sqlite3.SQLITE_READONLY: "the database cannot be written",
    sqlite3.SQLITE_IOERR: "the disk that holds the database fails",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
}


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, whatever characters its path holds."""
    return URL.create("sqlite", database=str(path)).render_as_string()


class Database:
    """Transactions over one database, from any thread; connections open at first use, so after any process start.

    Args:
        url: an SQLAlchemy URL; `sqlite_url` makes one of a path.
        busy_seconds: how long a writer waits for its turn before DatabaseBusyError.
        durable: whether SQLite forces every commit to the disk; False only for what power loss makes void anyway.
    """

    def __init__(self, url: str, *, busy_seconds: float = 5.0, durable: bool = True) -> None:
        self.url = url
        self._busy_seconds = busy_seconds
        self._durable = durable
        self._opening = threading.Lock()
        self._engine: Engine | None = None
        self._turn = Turns()
        self._rest_until = 0.0
        self._looking = threading.Lock()
        self._look: PoolProxiedConnection | None = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: every statement in it sees the same state.

        Raises:
            DatabaseBusyError: if the database is away.
        """
        with _said_as_busy(), self._connected() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: committed on a clean exit, undone on an exception.

        Raises:
            DatabaseBusyError: if another writer holds the lock too long, or the disk is full.
        """
        if not self._turn.acquire(timeout=self._busy_seconds):
            raise DatabaseBusyError(_AWAY[sqlite3.SQLITE_BUSY])
        try:
            with _said_as_busy(), self._connected() as connection:
                self._rest()
                writing = connection.execution_options(manymodels_write=True)
                with writing.begin():
                    started = time.monotonic()
                    yield writing
                self._plan_rest(started)
        finally:
            self._turn.release()

    def version(self) -> int:
        """A number that has changed if anything was committed since it was last asked for, by whatever process.

        A hundredth of what a transaction costs, for those who ask many times a second.

        Raises:
            DatabaseBusyError: if the database is away.
        """
        with _said_as_busy(), self._looking:
            if self._look is None:
                self._look = self._open().raw_connection()
                self._look.detach()  # never another's: it would not see what it commits itself
            # https://www.sqlite.org/pragma.html#pragma_data_version
            try:
                [(number,)] = self._look.cursor().execute("PRAGMA data_version").fetchall()
            except sqlite3.OperationalError as error:
                raise OperationalError("PRAGMA data_version", {}, error) from error
            return int(number)

    def close(self) -> None:
        """Close the idle connections; a later use opens new ones."""
        with self._looking:
            if self._look is not None:
                self._look.close()
                self._look = None
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._open().connect() as connection:
            yield connection

    def _open(self) -> Engine:
        with self._opening:
            if self._engine is None:
                self._engine = open_engine(self.url, self._busy_seconds, durable=self._durable)
            return self._engine

    def _rest(self) -> None:
        """Let other processes in: SQLite has no queue, so whoever writes in long steps pauses between them."""
        pause = self._rest_until - time.monotonic()
        if pause > 0:
            time.sleep(pause)

    def _plan_rest(self, started: float) -> None:
        ended = time.monotonic()
        self._rest_until = ended + PAUSE_SECONDS if ended - started > LONG_SECONDS else 0.0


def migrate(url: str) -> None:
    """Create or upgrade the schema; a database that is up to date stays untouched.

    Only a parent process calls this, before its children open the database; a file lock serialises parents that start
    on one home at the same time. Migrations only ever expand, so an older reader beside a newer one goes on working.

    Raises:
        DatabaseTooNewError: if a later version of manymodels has written the schema.
        DatabaseBusyError: if the database is locked for too long.
    """
    from alembic import command  # noqa: PLC0415 - only a parent migrates, and the import takes long
    from alembic.util import CommandError  # noqa: PLC0415 - as above

    database = Database(url)
    try:
        with _lock(url), database.write() as connection:
            config = alembic_config()
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise DatabaseTooNewError(
                    f"the database has a schema this version does not know ({error}); use the version that wrote it"
                ) from error
    finally:
        database.close()


def alembic_config() -> "Config":
    """The alembic configuration of the registry's own migrations."""
    from alembic.config import Config  # noqa: PLC0415 - as in `migrate`

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _lock(url: str) -> Iterator[None]:
    """Hold `<database>.lock` beside the file."""
    with Path(f"{make_url(url).database}.lock").open("a", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def open_engine(url: str, busy_seconds: float, *, durable: bool = True) -> Engine:
    """An engine over a SQLite file whose transactions follow the rules of this module."""
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


@contextmanager
def _said_as_busy() -> Iterator[None]:
    try:
        yield
    except PoolTimeoutError as error:
        raise DatabaseBusyError("all connections to the database are in use; try again") from error
    except OperationalError as error:
        detail = _AWAY.get(_primary_code(error))
        if detail is None:
            raise
        raise DatabaseBusyError(detail) from error


def _primary_code(error: OperationalError) -> int:
    origin: Any = error.orig
    return int(getattr(origin, "sqlite_errorcode", 0) or 0) & 0xFF
