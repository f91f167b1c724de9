"""Everything that only PostgreSQL needs.

The rest of the house was written for one writer at a time, which decides under the write lock and finds its decision
still true when it writes. Here an advisory lock is that write lock: one for the registry, another for leases, so that a
renewal never waits for an import. Readers see one snapshot (REPEATABLE READ) and wait for nobody.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

CONNECT_SECONDS: Final = 3
LOST_SECONDS: Final = 10  # after which a server that answers nothing any more is given up
_REGISTRY_LOCK: Final = 0x6D616E79_00000001  # "many", and which
_LEASES_LOCK: Final = 0x6D616E79_00000002

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY: Final[Mapping[str, str]] = {
    "55P03": "the database is locked by another writer; try again",
    "40001": "another transaction was in the way; try again",
    "40P01": "another transaction was in the way; try again",
    "57014": "the database took too long; try again",
    "53100": "the disk that holds the database is full",
    "25006": "the database cannot be written",
}
_AWAY_CLASSES: Final[Mapping[str, str]] = {
    "08": "the database cannot be reached",
    "53": "the database has no room for more; try again",
    "57": "the database is being stopped or started; try again",
}


class Postgresql:
    """A `registry.database.Backend` over a PostgreSQL server, through psycopg.

    Attributes:
        queues: waiters for the lock are served in turn.
    """

    queues = True

    def open_engine(self, url: str, busy_seconds: float, *, durable: bool) -> Engine:
        """An engine whose transactions follow the rules of this module."""
        engine = create_engine(
            driver_url(url),
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "keepalives_idle": LOST_SECONDS,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": LOST_SECONDS * 1000,
                "application_name": "manymodels",
            },
            pool_size=4,
            max_overflow=28,
            pool_timeout=busy_seconds,
        )
        lock, patience = (_REGISTRY_LOCK if durable else _LEASES_LOCK), int(busy_seconds * 1000)
        first = f"SET LOCAL lock_timeout = {patience}; {'' if durable else 'SET LOCAL synchronous_commit = off;'}"

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            if connection.get_execution_options().get("manymodels_write"):
                connection.exec_driver_sql(f"{first} SELECT pg_advisory_xact_lock({lock})")

        return engine

    def reading(self, connection: Connection) -> Connection:
        """A connection whose next transaction reads one state."""
        return connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def version(self, raw: Any) -> int:
        """Where the write-ahead log ends: it moves with every commit, and now and then without one."""
        driver = raw.dbapi_connection
        if not driver.autocommit:
            driver.autocommit = True
        [(place,)] = driver.execute("SELECT pg_current_wal_insert_lsn()").fetchall()
        high, _, low = str(place).partition("/")
        return int(high, 16) << 32 | int(low, 16)

    def why_away(self, error: DBAPIError) -> str | None:
        """In words, where an error says: not now."""
        state = getattr(error.orig, "sqlstate", None)
        if state is None:
            return "the database cannot be reached" if _is_lost(error) else None
        return _AWAY.get(state) or _AWAY_CLASSES.get(state[:2])

    @contextmanager
    def migrating(self, url: str) -> Iterator[None]:
        """Nothing: the write lock, under which migrations run, is held against every machine."""
        del url
        yield


def driver_url(url: str) -> str:
    """The URL with the driver that is used; `postgresql://` names none."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgresql", "postgres") else url


def _is_lost(error: DBAPIError) -> bool:
    from psycopg import InterfaceError, OperationalError  # noqa: PLC0415 - who has an error has imported it

    return error.connection_invalidated or isinstance(error.orig, OperationalError | InterfaceError)
