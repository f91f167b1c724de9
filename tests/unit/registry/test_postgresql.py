"""PostgreSQL keeps the rules that SQLite keeps: readers wait for nobody, writers decide one after another."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from registry.database import Database, backend_of, migrate
from registry.errors import DatabaseBusyError, DatabaseUnknownError
from registry.groups import get_group, list_groups
from registry.postgresql import driver_url
from registry.revision import bump, read_revision
from registry.tables import metadata
from tests.support.postgres import postgres
from tests.support.registries import Registry
from tests.support.waiting import until


@pytest.fixture
def url(postgres_server, migrated):
    return postgres_server.create(template=migrated)


@pytest.fixture
def registry(tmp_path, url):
    opened = Registry(tmp_path, url=url)
    yield opened
    opened.close()


@pytest.fixture
def other(url):
    """As another process sees the same database."""
    database = Database(url, busy_seconds=0.3)
    yield database
    database.close()


def test_a_migrated_database_has_exactly_the_tables_the_code_declares(registry):
    with registry.database.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []


def test_parents_that_migrate_at_once_take_turns(postgres_server):
    url = postgres_server.create()
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(migrate, url) for _ in range(4)]:
            done.result()
    database = Database(url)
    with database.read() as conn:
        assert list_groups(conn) == []
    database.close()


def test_a_reader_sees_one_state_however_long_it_reads(registry, other):
    with other.read() as reading:
        before = read_revision(reading)
        with registry.database.write() as conn:
            bump(conn)
        assert read_revision(reading) == before
    with other.read() as conn:
        assert read_revision(conn)[1] == before[1] + 1


def test_a_reader_cannot_write(registry):
    with pytest.raises(DatabaseBusyError, match="cannot be written"), registry.database.read() as conn:
        bump(conn)


def test_writers_of_two_processes_decide_one_after_another(registry, url):
    others = [Database(url) for _ in range(4)]

    def count(database):
        for _ in range(25):
            with database.write() as conn:
                number = read_revision(conn)[1]
                conn.execute(text("UPDATE revision SET number = :next"), {"next": number + 1})

    with registry.database.read() as conn:
        before = read_revision(conn)[1]
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(count, database) for database in others]:
            done.result()
    with registry.database.read() as conn:
        assert read_revision(conn)[1] == before + 100
    for database in others:
        database.close()


def test_a_writer_that_waits_too_long_is_told_to_try_again(registry, other):
    with registry.database.write(), pytest.raises(DatabaseBusyError, match="locked"), other.write():
        pass
    with other.write() as conn:
        bump(conn)


def test_leases_wait_for_no_registration(registry, url):
    leases = Database(url, busy_seconds=0.3, durable=False)
    with registry.database.write(), leases.write() as conn:
        conn.execute(text("SELECT 1"))
    leases.close()


def test_an_exception_undoes_the_whole_transaction(registry):
    with pytest.raises(RuntimeError), registry.database.write() as conn:
        raise RuntimeError(bump(conn))
    with registry.database.read() as conn, registry.database.read() as again:
        assert read_revision(conn) == read_revision(again)


def test_the_version_changes_with_what_others_commit_and_with_nothing_else(registry, other):
    first = other.version()
    assert other.version() == first
    with registry.database.write() as conn:
        bump(conn)
    assert other.version() != first


def test_a_statement_that_is_wrong_is_not_said_to_be_busy(registry):
    with pytest.raises(ProgrammingError), registry.database.read() as conn:
        conn.execute(text("SELECT nonsense FROM nowhere"))


def test_connections_that_were_cut_are_said_to_be_away_and_replaced(registry, postgres_server):
    registry.database.version()
    name = registry.database.url.rpartition("/")[2]
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"

    def write():
        with registry.database.write() as conn:
            bump(conn)
            postgres_server.execute(cut)
            conn.execute(text("SELECT 1"))

    with pytest.raises(DatabaseBusyError):
        write()
    with pytest.raises(DatabaseBusyError):
        registry.database.version()
    registry.database.version()
    with registry.database.write() as conn:
        bump(conn)
        assert get_group(conn, "oj").name == "oj"


def test_a_transaction_that_is_cut_after_any_statement_left_nothing(registry, postgres_server):
    name = registry.database.url.rpartition("/")[2]
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND state LIKE 'idle in%'"
    before = registry.now_group()

    def write(statements):
        with registry.database.write() as conn:
            for number in range(statements):
                conn.execute(text("UPDATE groups SET models = :n"), {"n": 100 + number})
            postgres_server.execute(cut)

    for statements in range(1, 4):
        with pytest.raises(DatabaseBusyError):
            write(statements)
    assert registry.now_group() == before


def test_a_server_that_is_away_is_said_so_and_used_again_when_it_is_back(tmp_path):
    with postgres() as server:
        url = server.create()
        migrate(url)
        registry = Registry(tmp_path, url=url)
        server.stop()
        for call in (registry.now_group, registry.database.version, lambda: registry.add("store=1/brand=a", "x")):
            with pytest.raises(DatabaseBusyError):
                call()
        server.start()
        until(lambda: _answers(registry), 30, "an answer")
        registry.add("store=1/brand=a", "x")
        registry.close()


def _answers(registry):
    try:
        return registry.now_group()
    except DatabaseBusyError:
        return None


def test_a_server_that_is_not_there_is_said_so():
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseBusyError, match="cannot be reached"), database.read():
        pass
    with pytest.raises(DatabaseBusyError, match="cannot be reached"):
        database.version()


def test_many_threads_read_and_write_without_a_failure(registry):
    failures = []

    def work():
        try:
            for _ in range(10):
                with registry.database.write() as conn:
                    bump(conn)
                with registry.database.read() as conn:
                    read_revision(conn)
        except Exception as error:  # noqa: BLE001 - any failure at all fails the test
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_an_address_needs_not_name_the_driver(scheme):
    assert driver_url(f"{scheme}://ann:pw@host/name?sslmode=require") == (
        "postgresql+psycopg://ann:pw@host/name?sslmode=require"
    )


@pytest.mark.parametrize("url", ["mysql://x/y", "registry.db", ""])
def test_an_address_of_no_database_we_know_is_refused(url):
    with pytest.raises(DatabaseUnknownError, match="postgresql://"):
        backend_of(url)
