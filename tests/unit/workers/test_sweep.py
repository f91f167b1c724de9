"""gc removes what nothing names, exactly what its dry run said, and never anything that is named."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from registry.groups import delete_group
from registry.holds import put_hold
from registry.imports import create_import
from registry.releases import get_release
from registry.retention import KEPT_RELEASES
from registry.versions import history
from tests.support.fleet import GROUP, Fleet, expected, raws
from workers.sweep import FAILPOINTS, Sweep, apply_sweep, plan_sweep

ROOT = Path(__file__).parents[3]
DAY = 24 * 3600.0


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with 15 releases, the last of them live."""
    home = tmp_path_factory.mktemp("template")
    fleet = Fleet(home)
    releases(fleet, 15)
    fleet.db.close()
    return home


@pytest.fixture
def fifteen(template: Path, tmp_path: Path) -> Fleet:
    shutil.copytree(template, tmp_path / "home")
    return Fleet.reopened(tmp_path / "home")


def grow_old(fleet: Fleet, days: float = 2) -> None:
    """Make everything in the artifact store as if last written days ago."""
    for folder in ("objects", "staged"):
        for path in (fleet.home / "artifacts" / folder).rglob("*"):
            os.utime(path, (fleet.now - days * DAY,) * 2)


def releases(fleet: Fleet, count: int) -> None:
    """Releases, each of which changes one of three keys and goes live."""
    for number in range(count):
        fleet.register({f"store={number % 3}/brand=b": f"model of release {number}".encode()})
        fleet.promote(fleet.release().number)


def digests(fleet: Fleet) -> set[str]:
    return {found.digest for found in fleet.store.objects()}


def stage(fleet: Fleet) -> str:
    name = "a" * 32
    (fleet.home / "artifacts" / "staged" / name).write_bytes(b"upload")
    return name


def sweep(fleet: Fleet) -> Sweep:
    return apply_sweep(fleet.db, fleet.store, now=fleet.now)


def plan(fleet: Fleet) -> Sweep:
    return plan_sweep(fleet.db, fleet.store, now=fleet.now)


def test_a_dry_run_names_what_apply_removes_and_changes_nothing(fifteen: Fleet) -> None:
    stage(fifteen)
    grow_old(fifteen)
    before = digests(fifteen)
    planned = plan(fifteen)
    assert (digests(fifteen), plan(fifteen)) == (before, planned)
    assert planned.retired == {GROUP: (1, 2, 3, 4, 5)}
    assert planned.versions[GROUP] == 3
    assert len(planned.objects) == 5 + 5 + 3  # manifests, segments, bundles
    assert planned.size == sum(found.size for found in planned.objects)
    assert sweep(fifteen) == planned
    assert digests(fifteen) == before - {found.digest for found in planned.objects}


def test_a_second_sweep_finds_nothing(fifteen: Fleet) -> None:
    grow_old(fifteen)
    sweep(fifteen)
    assert sweep(fifteen) == plan(fifteen) == Sweep({}, {}, (), (), ())


def test_nothing_younger_than_a_day_is_removed(fifteen: Fleet) -> None:
    stage(fifteen)
    orphan = fifteen.store.put([b"put by a build that has not named it yet"]).digest
    grow_old(fifteen, days=0.9)
    planned = plan(fifteen)
    assert (planned.objects, planned.staged) == ((), ())
    sweep(fifteen)
    assert orphan in digests(fifteen)
    grow_old(fifteen, days=1.1)
    assert orphan in {found.digest for found in plan(fifteen).objects}


def test_all_that_kept_releases_hold_stays_readable(fifteen: Fleet) -> None:
    kept = range(16 - KEPT_RELEASES, 16)
    before = {number: fifteen.contents(number) for number in kept}
    grow_old(fifteen)
    assert sweep(fifteen).objects
    assert {number: fifteen.contents(number) for number in kept} == before


def test_the_live_release_stays_however_old_it_is(fleet: Fleet) -> None:
    fleet.register(raws(3))
    fleet.promote(fleet.release().number)
    for number in range(12):
        fleet.register({"store=1/brand=b": f"never live {number}".encode()})
        fleet.release()
    grow_old(fleet)
    assert sweep(fleet).retired == {GROUP: (2, 3)}
    assert fleet.contents(1) == expected(raws(3))


def test_a_retired_release_says_so(fleet: Fleet) -> None:
    releases(fleet, 11)
    sweep(fleet)
    with fleet.db.read() as conn:
        assert get_release(conn, fleet.group, 1).state == "retired"
        assert get_release(conn, fleet.group, 2).state == "ready"


def test_versions_that_kept_releases_hold_stay_in_the_history(fifteen: Fleet) -> None:
    sweep(fifteen)
    with fifteen.db.read() as conn:
        numbers = [entry.version.number for entry in history(conn, fifteen.group, fifteen.key("store=0/brand=b"))]
    assert numbers == [5, 4, 3, 2]  # release 6, the oldest kept one, answers store=0 with its second version


def test_a_pinned_version_stays(fifteen: Fleet) -> None:
    with fifteen.db.write() as conn:
        put_hold(
            conn,
            fifteen.group,
            fifteen.key("store=0/brand=b"),
            action="pin",
            version=1,
            reason="compare",
            author="",
            until=None,
            now=fifteen.now,
        )
    grow_old(fifteen)
    sweep(fifteen)
    pinned = fifteen.release()
    assert fifteen.contents(pinned.number)["store=0/brand=b"] == (1, b"model of release 0")


def test_releases_are_built_as_ever_after_a_sweep(fifteen: Fleet) -> None:
    grow_old(fifteen)
    sweep(fifteen)
    fifteen.register({"store=9/brand=b": b"after"})
    release = fifteen.release()
    assert (release.report["added"], release.report["carried"], release.report["failed"]) == (1, 3, 0)


def test_a_damaged_base_is_restored_from_what_a_sweep_left(fifteen: Fleet) -> None:
    fifteen.delete("store=2/brand=b")
    fifteen.promote(fifteen.release().number)
    grow_old(fifteen)
    sweep(fifteen)
    fifteen.store.delete(fifteen.manifest(16).by_shard[0].digest)
    fifteen.register({"store=9/brand=b": b"after"})
    release = fifteen.release()
    assert (release.state, release.report["repaired"], release.report["carried"]) == ("ready", 1, 2)


def test_a_deleted_group_leaves_nothing_behind(fleet: Fleet) -> None:
    releases(fleet, 3)
    grow_old(fleet)
    with fleet.db.write() as conn:
        delete_group(conn, GROUP, confirm=GROUP)
    assert {found.digest for found in plan(fleet).objects} == digests(fleet)
    sweep(fleet)
    assert digests(fleet) == set()
    with fleet.db.read() as conn:
        for table in ("groups", "model_versions", "heads", "releases", "release_changes"):
            assert conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 0


def test_an_upload_that_an_import_needs_stays(fleet: Fleet) -> None:
    name = stage(fleet)
    grow_old(fleet)
    assert plan(fleet).staged == (name,)
    with fleet.db.write() as conn:
        create_import(conn, fleet.group, source=name, digest="d", on_error="fail", runtime=None, now=fleet.now)
    assert plan(fleet).staged == ()
    sweep(fleet)
    assert fleet.store.staged(name).exists()


def test_no_object_is_removed_while_a_manifest_cannot_be_read(fleet: Fleet) -> None:
    releases(fleet, 12)
    grow_old(fleet)
    before = digests(fleet)
    with fleet.db.read() as conn:
        manifest = get_release(conn, fleet.group, 7).manifest
    assert manifest is not None
    fleet.store.path(manifest).write_bytes(b"damaged")
    assert plan(fleet).objects == ()
    swept = sweep(fleet)
    assert (swept.objects, swept.unreadable) == ((), (manifest,))
    assert digests(fleet) == before


def test_a_blocked_release_is_kept_among_the_last(fleet: Fleet) -> None:
    releases(fleet, 2)
    fleet.delete("store=0/brand=b")
    blocked = fleet.release(gates={"max_lost": 0})
    assert blocked.state == "blocked"
    grow_old(fleet)
    sweep(fleet)
    assert set(fleet.contents(blocked.number)) == {"store=1/brand=b"}


def test_the_report_names_everything_in_json(fleet: Fleet) -> None:
    releases(fleet, 12)
    grow_old(fleet)
    planned = plan(fleet)
    report = planned.to_json()
    assert report["retired"] == {GROUP: [1, 2]}
    assert report["bytes"] == planned.size > 0
    assert report["objects"] == [found.digest for found in planned.objects]


SCRIPT = """
import sys
from pathlib import Path
from tests.support.fleet import Fleet
from workers.sweep import apply_sweep
fleet = Fleet.reopened(Path(sys.argv[1]))
apply_sweep(fleet.db, fleet.store, now=fleet.now)
"""


@pytest.mark.parametrize("name", FAILPOINTS)
def test_a_sweep_that_dies_loses_nothing_and_the_next_one_ends_it(fifteen: Fleet, name: str) -> None:
    stage(fifteen)
    grow_old(fifteen)
    kept = {number: fifteen.contents(number) for number in range(6, 16)}
    whole = digests(fifteen) - {found.digest for found in plan(fifteen).objects}
    fifteen.db.close()
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(fifteen.home)],
        env={**os.environ, "MANYMODELS_FAILPOINT": name, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    with sqlite3.connect(fifteen.home / "registry.db") as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()
    assert {number: fifteen.contents(number) for number in range(6, 16)} == kept
    sweep(fifteen)
    assert digests(fifteen) == whole
    assert list(fifteen.store.staged_names()) == []
    assert {number: fifteen.contents(number) for number in range(6, 16)} == kept
