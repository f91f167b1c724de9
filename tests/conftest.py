from collections.abc import Iterator

import pytest

from deploy.local.servers import PostgresServer
from tests.support.postgres import postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with postgres() as running:
        yield running
