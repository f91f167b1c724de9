"""A release holds exactly what its base and its changes say, writes only what changed, and survives what breaks."""

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry.artifacts.bundle import write_bundle
from registry.records import BundleSlice
from registry.releases import changes
from registry.versions import list_heads
from tests.support.fleet import Fleet, expected, raws
from workers.builder.release_build import FAILPOINTS
from workers.segments.reader import Segment

ROOT = Path(__file__).parents[4]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def damage(path: Path, at: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 0xFF
    path.write_bytes(data)


def test_a_first_release_holds_every_model(fleet: Fleet) -> None:
    fleet.register(raws(50))
    release = fleet.release()
    assert release.state == "ready"
    assert release.models == 50
    assert fleet.contents(release.number) == expected(raws(50))
    assert release.size == sum(ref.size for ref in fleet.manifest(release.number).segments)
    report = release.report
    assert (report["added"], report["changed"], report["carried"], report["lost"]) == (50, 0, 0, 0)
    assert report["stored_native"] == {"unknown": 50}


def test_a_release_of_nothing_is_ready_and_empty(fleet: Fleet) -> None:
    release = fleet.release()
    assert (release.state, release.models, release.size) == ("ready", 0, 0)
    assert fleet.manifest(release.number).segments == ()


def test_what_a_segment_says_of_a_model_is_what_was_registered(fleet: Fleet) -> None:
    fleet.register({"store=2/brand=b": b"model"}, trained_through="2026-11-19", trained_at="2026-11-20")
    [segment] = fleet.segments(fleet.release().number)
    entry = segment.entry(0)
    assert (entry.runtime, entry.size, entry.heap) == ("lightgbm", 5, 1029)
    assert (entry.trained_through, entry.trained_at) == ("2026-11-19", "2026-11-20")
    assert entry.digest == hashlib.sha256(b"model").hexdigest()
    assert entry.slot == fleet.group.schema.slot(fleet.key("store=2/brand=b"))


def test_fallback_models_lie_in_a_segment_of_their_own(fleet: Fleet) -> None:
    partial = {"brand=b": b"brand model", "": b"whole group"}
    fleet.register(raws(10) | partial)
    number = fleet.release().number
    fleet.promote(number)
    refs = fleet.manifest(number).by_shard
    assert (refs[-1].models, refs[0].models) == (2, 10)
    assert fleet.contents(number) == expected(raws(10) | partial)
    fleet.register({"brand=b": b"newer brand model"})
    following = fleet.manifest(fleet.release().number).by_shard
    assert following[0] == refs[0]
    assert following[-1] != refs[-1]


def test_a_tombstone_takes_the_model_out_and_is_counted_lost(fleet: Fleet) -> None:
    fleet.register(raws(5))
    fleet.promote(fleet.release().number)
    fleet.delete("store=3/brand=b")
    release = fleet.release()
    assert "store=3/brand=b" not in fleet.contents(release.number)
    assert release.models == 4
    assert (release.report["lost"], release.report["names"]["lost"]) == (1, ["store=3/brand=b"])
    fleet.promote(release.number)
    fleet.register({"store=3/brand=b": b"back again"})
    again = fleet.release()
    assert (again.report["added"], again.report["lost"]) == (1, 0)
    assert fleet.contents(again.number)["store=3/brand=b"] == (3, b"back again")


def test_a_shard_whose_last_model_goes_has_no_segment(fleet: Fleet) -> None:
    fleet.register(raws(1))
    fleet.promote(fleet.release().number)
    fleet.delete("store=0/brand=b")
    release = fleet.release()
    assert fleet.manifest(release.number).segments == ()
    assert (release.state, release.report["changed_shards"]) == ("ready", 1)


def test_named_versions_alone_are_changed(fleet: Fleet) -> None:
    fleet.register(raws(3))
    fleet.promote(fleet.release().number)
    fleet.register(raws(3, "newer"))
    release = fleet.release(named=[("store=1/brand=b", 2)])
    assert fleet.contents(release.number) == expected(raws(3)) | {"store=1/brand=b": (2, b"newer 1")}
    assert (release.report["changed"], release.report["carried"]) == (1, 2)


def test_naming_what_the_base_has_already_carries_it(fleet: Fleet) -> None:
    fleet.register(raws(3))
    fleet.promote(fleet.release().number)
    release = fleet.release(named=[("store=1/brand=b", 1)])
    assert (release.report["changed"], release.report["added"], release.report["carried"]) == (0, 0, 3)
    assert release.report["changed_shards"] == 0
    assert fleet.manifest(release.number).segments == fleet.manifest(1).segments


# --- bytes that are missing or damaged


def test_a_change_whose_bytes_are_gone_fails_and_keeps_the_bases_version(fleet: Fleet) -> None:
    fleet.register(raws(3))
    fleet.promote(fleet.release().number)
    absent = BundleSlice("0" * 64, 0, 20)
    fleet.name(
        [fleet.version("store=1/brand=b", b"newer", absent, {}), fleet.version("store=9/brand=b", b"x", absent, {})]
    )
    release = fleet.release()
    assert release.state == "ready"
    assert fleet.contents(release.number) == expected(raws(3))
    assert (release.report["failed"], release.report["carried"], release.report["lost"]) == (2, 3, 0)
    assert sorted(one["key"] for one in release.report["names"]["failed"]) == ["store=1/brand=b", "store=9/brand=b"]
    assert {one["code"] for one in release.report["names"]["failed"]} == {"artifact_missing"}
    with fleet.db.read() as conn:  # the record says what the release holds
        assert list(changes(conn, fleet.group, release.number, -1, 4096)) == []


def test_a_change_whose_bytes_are_damaged_fails_alone(fleet: Fleet) -> None:
    fleet.register(raws(3))
    fleet.promote(fleet.release().number)
    versions = fleet.register({f"store={n}/brand=b": random.Random(n).randbytes(1000) for n in range(3)})
    place = versions[1].place
    assert place is not None
    damage(fleet.store.path(place.bundle), place.offset + 500)
    release = fleet.release()
    assert release.report["failed"] == 1
    assert release.report["names"]["failed"][0]["code"] == "artifact_damaged"
    found = fleet.contents(release.number)
    assert found["store=1/brand=b"] == (1, b"model 1")
    assert found["store=2/brand=b"][0] == 2


def test_bytes_of_another_model_are_never_taken(fleet: Fleet) -> None:
    [place] = write_bundle(fleet.store, [b"another model"])
    fleet.name([fleet.version("store=1/brand=b", b"the model xxx", place, {})])
    release = fleet.release()
    assert (release.models, release.report["failed"]) == (0, 1)


@pytest.mark.parametrize("broken", ["damaged", "missing"])
def test_a_broken_segment_of_the_base_is_written_anew_from_the_bundles(fleet: Fleet, broken: str) -> None:
    fleet.register(raws(20) | {"brand=b": b"brand model"})
    fleet.promote(fleet.release().number)
    fleet.register({"store=2/brand=b": b"second"})
    fleet.delete("store=4/brand=b")
    fleet.promote(fleet.release().number)
    path = fleet.store.path(fleet.manifest(2).by_shard[0].digest)
    if broken == "damaged":
        damage(path, path.stat().st_size - 10)
    else:
        path.unlink()
    fleet.register({"store=3/brand=b": b"third"})
    release = fleet.release()
    assert (release.state, release.report["repaired"]) == ("ready", 1)
    models = expected(raws(20) | {"brand=b": b"brand model"}) | {
        "store=2/brand=b": (2, b"second"),
        "store=3/brand=b": (2, b"third"),
    }
    del models["store=4/brand=b"]
    assert fleet.contents(release.number) == models
    fleet.store.verify(fleet.manifest(2).by_shard[0].digest)


def test_a_missing_segment_that_no_change_touches_is_written_anew_too(fleet: Fleet) -> None:
    fleet.register(raws(5) | {"brand=b": b"brand model"})
    fleet.promote(fleet.release().number)
    fleet.store.delete(fleet.manifest(1).by_shard[-1].digest)
    fleet.register({"store=3/brand=b": b"third"})
    release = fleet.release()
    assert (release.state, release.report["repaired"]) == ("ready", 1)
    assert fleet.contents(release.number)["brand=b"] == (1, b"brand model")


def test_a_base_that_cannot_be_restored_fails_the_release_and_says_why(fleet: Fleet) -> None:
    [*versions] = fleet.register(raws(5))
    fleet.promote(fleet.release().number)
    place = versions[0].place
    assert place is not None
    fleet.store.delete(place.bundle)
    damage(fleet.store.path(fleet.manifest(1).by_shard[0].digest))
    fleet.register({"store=3/brand=b": b"third"})
    release = fleet.release()
    assert release.state == "failed"
    assert release.report["error"]["code"] == "artifact_damaged"


def test_a_damaged_manifest_of_the_base_fails_the_release(fleet: Fleet) -> None:
    fleet.register(raws(2))
    first = fleet.release()
    fleet.promote(first.number)
    assert first.manifest is not None
    damage(fleet.store.path(first.manifest))
    fleet.register({"store=1/brand=b": b"x"})
    assert fleet.release().state == "failed"


# --- gates and ages


def test_a_gate_that_is_not_passed_blocks_the_release(fleet: Fleet) -> None:
    fleet.register(raws(3))
    fleet.promote(fleet.release().number)
    fleet.delete("store=1/brand=b")
    blocked = fleet.release(gates={"max_lost": 0})
    assert blocked.state == "blocked"
    assert blocked.report["blocked_by"] == ["max_lost"]
    assert fleet.release(gates={"max_lost": 1}).state == "ready"


def test_stale_and_undated_models_are_counted_over_the_whole_release(fleet: Fleet) -> None:
    fleet.register({"store=1/brand=b": b"old"}, trained_through="2020-01-01")
    fleet.register({"store=2/brand=b": b"fresh"}, trained_through="2027-01-14T00:00:00Z")
    fleet.register({"store=3/brand=b": b"undated"})
    fleet.register({"brand=b": b"unreadable"}, trained_through="last week")
    first = fleet.release()
    assert (first.report["stale"], first.report["undated"]) == (1, 2)
    assert first.report["names"]["stale"] == ["store=1/brand=b"]
    fleet.promote(first.number)
    fleet.register({"brand=b": b"readable"}, trained_at="2019-01-01")
    second = fleet.release(gates={"max_stale_days": 10_000})
    assert (second.state, second.report["stale"], second.report["undated"]) == ("ready", 0, 1)
    third = fleet.release(gates={"max_stale_days": 30})
    assert (third.state, third.report["stale"]) == ("blocked", 2)


def test_a_release_is_built_once(fleet: Fleet) -> None:
    fleet.register(raws(2))
    first = fleet.release()
    assert fleet.build(first.number) == first


# --- crashes

SCRIPT = """
import sys
from pathlib import Path
from tests.support.fleet import Fleet, expected, raws
Fleet.reopened(Path(sys.argv[1])).build(int(sys.argv[2]))
"""


@pytest.mark.parametrize("name", [*FAILPOINTS, "store.put.written", "store.put.renamed"])
def test_a_build_repeated_after_a_crash_gives_the_same_manifest(tmp_path: Path, name: str) -> None:
    for home in ("whole", "crashed"):
        (tmp_path / home).mkdir()
    whole, crashed = Fleet(tmp_path / "whole"), Fleet(tmp_path / "crashed")
    for fleet in (whole, crashed):
        fleet.register(raws(20) | {"brand=b": b"brand model"})
        fleet.promote(fleet.release().number)
        fleet.register({"store=3/brand=b": b"hotfix", "brand=b": b"newer"})
        fleet.delete("store=5/brand=b")
    expected_manifest = whole.release().manifest
    number = crashed.begin()
    crashed.db.close()
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(crashed.home), str(number)],
        env={**os.environ, "MANYMODELS_FAILPOINT": name, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert crashed.contents(1) == expected(raws(20) | {"brand=b": b"brand model"})
    again = crashed.build(number)
    assert (again.state, again.manifest) == ("ready", expected_manifest)
    assert again.report["failed"] == 0


def test_what_is_registered_while_a_release_is_built_waits_for_the_next(fleet: Fleet) -> None:
    fleet.register(raws(3))
    number = fleet.begin()
    fleet.register({"store=1/brand=b": b"too late"})
    fleet.build(number)
    assert fleet.contents(number) == expected(raws(3))
    with fleet.db.read() as conn:
        assert len(list_heads(conn, fleet.group, limit=10).items) == 3


def test_segments_of_a_release_are_named_by_the_digest_of_their_bytes(fleet: Fleet) -> None:
    fleet.register(raws(3))
    for ref in fleet.manifest(fleet.release().number).segments:
        path = fleet.store.path(ref.digest)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == ref.digest
        assert path.stat().st_size == ref.size
        assert len(Segment.open(path)) == ref.models
