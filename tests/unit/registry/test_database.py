import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from registry.database import Database, migrate, sqlite_url
from registry.errors import DatabaseBusyError, DatabaseTooNewError
from registry.groups import list_groups
from registry.revision import bump, read_revision
from registry.tables import metadata
from tests.support.registries import Registry

ODD = "a b/50%41?x=1#é;🍊"


@pytest.fixture
def registry(tmp_path):
    """In SQLite, whose rules these are; see `test_postgresql` for the other's."""
    opened = Registry(tmp_path)
    yield opened
    opened.close()


def test_a_migrated_database_has_exactly_the_tables_the_code_declares(registry):
    with registry.database.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []


def test_migrating_again_changes_nothing(registry):
    before = registry.path.read_bytes()
    migrate(sqlite_url(registry.path))
    assert registry.path.read_bytes() == before


def test_any_path_can_hold_a_database(tmp_path):
    path = tmp_path / ODD / "registry.db"
    path.parent.mkdir(parents=True)
    migrate(sqlite_url(path))
    database = Database(sqlite_url(path))
    with database.read() as conn:
        assert list_groups(conn) == []
    database.close()
    assert path.exists()


def test_parents_that_migrate_one_database_at_once_all_succeed(tmp_path):
    url = sqlite_url(tmp_path / "registry.db")
    code = f"from registry.database import migrate; migrate({url!r})"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]


def test_a_database_of_a_later_version_is_refused(registry):
    with registry.database.write() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNewError) as caught:
        migrate(sqlite_url(registry.path))
    assert "9999" in caught.value.detail


def test_migrations_are_part_of_an_installed_package():
    from importlib.resources import files

    found = files("registry") / "migrations"
    assert (found / "env.py").is_file()
    assert (found / "script.py.mako").is_file()


def test_nothing_is_opened_before_the_first_use(tmp_path):
    database = Database(sqlite_url(tmp_path / "registry.db"))
    database.close()
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_usable_again_after_close(registry):
    registry.database.close()
    with registry.database.read() as conn:
        assert [group.name for group in list_groups(conn)] == ["oj"]


def test_commits_survive_power_loss_by_setting(registry):
    with registry.database.read() as conn:
        assert conn.execute(text("PRAGMA synchronous")).scalar_one() == 2
        assert conn.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert conn.execute(text("PRAGMA foreign_keys")).scalar_one() == 1


def test_an_exception_undoes_the_whole_transaction(registry):
    with registry.database.read() as conn:
        before = read_revision(conn)
    with pytest.raises(ZeroDivisionError), registry.database.write() as conn:
        divide(bump(conn), 0)
    with registry.database.read() as conn:
        assert read_revision(conn) == before


def divide(number: int, by: int) -> float:
    return number / by


def test_a_reader_sees_one_state_while_others_write(registry):
    with registry.database.read() as reader:
        before = read_revision(reader)
        with registry.database.write() as writer:
            bump(writer)
        assert read_revision(reader) == before
    with registry.database.read() as reader:
        assert read_revision(reader) == (before[0], before[1] + 1)


def test_a_reader_never_waits_for_a_writer(registry):
    with registry.database.write() as writer:
        bump(writer)
        started = time.monotonic()
        with registry.database.read() as reader:
            read_revision(reader)
        assert time.monotonic() - started < 2.0


def test_a_writer_that_waits_too_long_is_told_so(registry):
    impatient = Database(sqlite_url(registry.path), busy_seconds=0.05)
    with registry.database.write() as conn:
        bump(conn)
        with pytest.raises(DatabaseBusyError, match="locked"), impatient.write():
            pass
    with impatient.write() as conn:
        bump(conn)
    impatient.close()


def test_a_thread_that_waits_too_long_behind_its_own_process_is_told_so(tmp_path, registry):
    impatient = Database(sqlite_url(registry.path), busy_seconds=0.05)
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with impatient.write():
            inside.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(30)
    with pytest.raises(DatabaseBusyError), impatient.write():
        pass
    done.set()
    holder.join()
    impatient.close()


def test_a_waiting_writer_gets_in_between_the_steps_of_a_busy_one(registry):
    """One process writes without a break, as an import does; another's short write must not starve."""
    stop = threading.Event()

    def write_on() -> None:
        busy = Database(sqlite_url(registry.path))
        while not stop.is_set():
            with busy.write() as conn:
                bump(conn)
                time.sleep(0.05)
        busy.close()

    busy = threading.Thread(target=write_on)
    busy.start()
    try:
        waits = []
        for _ in range(10):
            started = time.monotonic()
            with registry.database.write() as conn:
                bump(conn)
            waits.append(time.monotonic() - started)
    finally:
        stop.set()
        busy.join()
    assert max(waits) < 4.0
    assert sorted(waits)[5] < 1.0


def test_writers_of_many_threads_all_get_their_turn(registry):
    def write(_: int) -> int:
        with registry.database.write() as conn:
            return bump(conn)

    with ThreadPoolExecutor(16) as threads:
        numbers = list(threads.map(write, range(100)))
    assert len(set(numbers)) == 100


def overfill(conn) -> None:
    conn.execute(text("PRAGMA max_page_count=10"))
    conn.execute(text("CREATE TABLE filler (data BLOB)"))
    conn.execute(text("INSERT INTO filler VALUES (zeroblob(1000000))"))


def test_a_full_disk_is_said_and_nothing_is_damaged(registry):
    """The page limit stands in for the disk: SQLite answers both with the same code."""
    with pytest.raises(DatabaseBusyError, match="full"), registry.database.write() as conn:
        overfill(conn)
    registry.database.close()
    with registry.database.read() as conn:
        assert conn.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"


def test_a_missing_folder_is_a_database_that_is_away(tmp_path):
    database = Database(sqlite_url(tmp_path / "no" / "registry.db"))
    with pytest.raises(DatabaseBusyError, match="opened"), database.read():
        pass
    database.close()


def test_a_statement_that_is_wrong_is_not_said_to_be_busy(registry):
    with pytest.raises(OperationalError, match="no such table"), registry.database.read() as conn:
        conn.execute(text("SELECT * FROM filler"))


def test_a_writer_killed_in_the_middle_leaves_the_old_state(registry):
    code = f"""
import os, signal
from registry.database import Database
from registry.revision import bump
with Database({sqlite_url(registry.path)!r}).write() as conn:
    bump(conn)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with registry.database.read() as conn:
        before = read_revision(conn)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with registry.database.write() as conn:
        assert read_revision(conn) == before
        assert conn.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"


def test_every_database_has_an_epoch_of_its_own(tmp_path):
    epochs = set()
    for name in ("a.db", "b.db"):
        url = sqlite_url(tmp_path / name)
        migrate(url)
        database = Database(url)
        with database.read() as conn:
            epochs.add(read_revision(conn)[0])
        database.close()
    assert len(epochs) == 2


def test_the_version_moves_with_each_commit_of_anybody_and_never_without(registry):
    mine, other = Database(sqlite_url(registry.path)), Database(sqlite_url(registry.path))
    seen = [mine.version()]
    for database in (mine, other, mine):
        with database.read() as conn:
            read_revision(conn)
        assert mine.version() == seen[-1]
        with database.write() as conn:
            bump(conn)
        seen.append(mine.version())
    assert len(set(seen)) == 4
    for database in (mine, other):
        database.close()
    with registry.database.write() as conn:
        bump(conn)
    assert isinstance(mine.version(), int)  # a closed database opens again
    mine.close()
