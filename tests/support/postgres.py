"""A real PostgreSQL server on loopback, for one test or for all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deploy.local.servers import PostgresServer
from tests.support.installed import needed


@contextmanager
def postgres(options: Sequence[str] = ()) -> Iterator[PostgresServer]:
    """A server until the context is left."""
    server = needed(lambda: PostgresServer(options=options))
    try:
        server.start()
        yield server
    finally:
        server.remove()
