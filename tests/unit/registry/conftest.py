from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.servers import PostgresServer
from registry.database import migrate
from tests.support.registries import Registry


@pytest.fixture(scope="session")
def migrated(postgres_server: PostgresServer) -> str:
    """The name of a migrated database to copy."""
    url = postgres_server.create()
    migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "sqlite":
        opened = Registry(tmp_path)
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        opened = Registry(tmp_path, url=server.create(template=request.getfixturevalue("migrated")))
    yield opened
    opened.close()
