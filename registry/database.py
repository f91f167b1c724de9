"""The one door to SQL: engines, transactions, and what a locked or lost database means to a caller.

Readers see one consistent state for as long as they read; writers take the write lock before they look, so that what
they decide still holds when they write. How SQLite and PostgreSQL are brought to that stands in a module each.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection, RootTransaction
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from registry.errors import DatabaseBusyError, DatabaseTooNewError, DatabaseUnknownError, OutcomeUnknownError
from registry.turns import Turns

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS: Final = "registry:migrations"
LONG_SECONDS: Final = 0.02
PAUSE_SECONDS: Final = 0.006
LOCKED: Final = "the database is locked by another writer; try again"
UNKNOWN: Final = (
    "the connection to the database was lost while the change was being committed: it is made whole or not at all; "
    "look, and try again"
)


class Backend(Protocol):
    """What differs between databases.

    Attributes:
        queues: whether writers of several processes are served in turn.
    """

    queues: bool

    def open_engine(self, url: str, busy_seconds: float, *, durable: bool) -> Engine:
        """An engine whose write transactions, begun with the option `manymodels_write`, hold the write lock."""

    def reading(self, connection: Connection) -> Connection:
        """A connection whose next transaction reads one state."""

    def version(self, raw: Any) -> int:
        """A number that changes with every commit, asked over a connection of its own."""

    def why_away(self, error: DBAPIError) -> str | None:
        """In words, where an error says: not now."""

    def migrating(self, url: str) -> AbstractContextManager[None]:
        """Held while the schema is brought up to date."""


def backend_of(url: str) -> Backend:
    """The backend that an SQLAlchemy URL names.

    Raises:
        DatabaseUnknownError: if there is none for it.
    """
    kind = url.partition("://")[0].partition("+")[0]
    if kind == "sqlite":
        from registry.sqlite import Sqlite  # noqa: PLC0415 - only what is used is imported

        return Sqlite()
    if kind in ("postgresql", "postgres"):
        from registry.postgresql import Postgresql  # noqa: PLC0415 - as above

        return Postgresql()
    raise DatabaseUnknownError(
        f"no database is known by {kind!r}; postgresql://user@host/name names one", field="registry"
    )


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, whatever characters its path holds."""
    return URL.create("sqlite", database=str(path)).render_as_string()


class Database:
    """Transactions over one database, from any thread; connections open at first use, so after any process start.

    Args:
        url: an SQLAlchemy URL; `sqlite_url` makes one of a path.
        busy_seconds: how long a writer waits for its turn before DatabaseBusyError.
        durable: whether every commit is forced to the disk; False only for leases, which power loss makes void anyway.

    Raises:
        DatabaseUnknownError: if no database is known by such a URL.
    """

    def __init__(self, url: str, *, busy_seconds: float = 5.0, durable: bool = True) -> None:
        self.url = url
        self._backend = backend_of(url)
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
        with self._said_as_busy(), self._connected() as connection:
            reading = self._backend.reading(connection)
            with reading.begin():
                yield reading

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: committed on a clean exit, undone on an exception.

        Raises:
            DatabaseBusyError: if another writer holds the lock too long, or the disk is full; nothing was changed.
            OutcomeUnknownError: if the connection was lost while it was committed.
        """
        if not self._turn.acquire(timeout=self._busy_seconds):
            raise DatabaseBusyError(LOCKED)
        try:
            with self._said_as_busy(), self._connected() as connection:
                self._rest()
                writing = connection.execution_options(manymodels_write=True)
                with writing.begin() as transaction:
                    started = time.monotonic()
                    yield writing
                    _commit(transaction)
                self._plan_rest(started)
        finally:
            self._turn.release()

    def version(self) -> int:
        """A number that has changed if anything was committed since it was last asked for, by whatever process.

        A hundredth of what a transaction costs, for those who ask many times a second.

        Raises:
            DatabaseBusyError: if the database is away.
        """
        with self._said_as_busy(), self._looking:
            try:
                if self._look is None:
                    self._look = self._open().raw_connection()
                    self._look.detach()  # never another's: it would not see what it commits itself
                return self._backend.version(self._look)
            except Exception as error:
                self._stop_looking()
                driver = self._open().dialect.dbapi
                if driver is not None and isinstance(error, driver.Error):
                    raise DBAPIError("", None, error) from error
                raise

    def close(self) -> None:
        """Close the idle connections; a later use opens new ones."""
        with self._looking:
            self._stop_looking()
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
                self._engine = self._backend.open_engine(self.url, self._busy_seconds, durable=self._durable)
            return self._engine

    def _rest(self) -> None:
        """Let other processes in: where writers have no queue, whoever writes in long steps pauses between them."""
        pause = self._rest_until - time.monotonic()
        if pause > 0:
            time.sleep(pause)

    def _plan_rest(self, started: float) -> None:
        ended = time.monotonic()
        rests = not self._backend.queues and ended - started > LONG_SECONDS
        self._rest_until = ended + PAUSE_SECONDS if rests else 0.0

    def _stop_looking(self) -> None:
        look, self._look = self._look, None
        if look is not None:
            connection = look.dbapi_connection
            if connection is not None:
                with suppress(Exception):  # what is lost already cannot be closed
                    connection.close()

    @contextmanager
    def _said_as_busy(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeoutError as error:
            raise DatabaseBusyError("all connections to the database are in use; try again") from error
        except DBAPIError as error:
            detail = self._backend.why_away(error)
            if detail is None:
                raise
            raise DatabaseBusyError(detail) from error


def _commit(transaction: RootTransaction) -> None:
    try:
        transaction.commit()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise OutcomeUnknownError(UNKNOWN) from error
        raise


def migrate(url: str) -> None:
    """Create or upgrade the schema; a database that is up to date stays untouched.

    Only a parent process calls this, before its children open the database; parents that start at the same time take
    turns. Migrations only ever expand, so an older reader beside a newer one goes on working.

    Raises:
        DatabaseTooNewError: if a later version of manymodels has written the schema.
        DatabaseBusyError: if the database is locked for too long.
    """
    from alembic import command  # noqa: PLC0415 - only a parent migrates, and the import takes long
    from alembic.util import CommandError  # noqa: PLC0415 - as above

    database = Database(url)
    try:
        with backend_of(url).migrating(url), database.write() as connection:
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
