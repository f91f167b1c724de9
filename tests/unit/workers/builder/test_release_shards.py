"""Shards: a hotfix writes one segment, a fleet that grows or shrinks is cut anew, and memory stays small."""

import random
import tracemalloc
from pathlib import Path

import pytest

from registry.keys import KeySchema
from tests.support.fleet import Fleet, expected, heavy, raws


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_one_changed_key_rewrites_only_its_shards_segment(fleet: Fleet) -> None:
    models = heavy(70)
    fleet.register(models)
    first = fleet.release()
    before = fleet.manifest(1).by_shard
    assert len(before) == fleet.manifest(1).shards == 4
    fleet.promote(first.number)
    fleet.register({"store=7/brand=b": b"hotfix"})
    second = fleet.release()
    after = fleet.manifest(second.number).by_shard
    assert len([shard for shard in before if before[shard].digest != after[shard].digest]) == 1
    assert (second.report["changed"], second.report["carried"]) == (1, 69)
    assert (second.report["changed_shards"], second.report["shards"]) == (1, 4)
    assert fleet.contents(second.number) == expected(models) | {"store=7/brand=b": (2, b"hotfix")}
    assert fleet.contents(first.number) == expected(models)


def test_a_fleet_that_grows_is_cut_into_more_shards_and_loses_nothing(fleet: Fleet) -> None:
    fleet.register(raws(30) | {"brand=b": b"brand model"})
    fleet.promote(fleet.release().number)
    fallback = fleet.manifest(1).by_shard[-1]
    models = {f"store={n + 100}/brand=b": raw for n, raw in enumerate(heavy(140).values())}
    fleet.register(models)
    release = fleet.release()
    manifest = fleet.manifest(release.number)
    assert (fleet.manifest(1).shards, manifest.shards) == (1, 8)
    assert manifest.by_shard[-1] == fallback
    assert fleet.contents(release.number) == expected(models | raws(30) | {"brand=b": b"brand model"})
    assert (release.report["added"], release.report["carried"]) == (140, 31)


def test_a_fleet_that_shrinks_is_joined_into_fewer_shards(fleet: Fleet) -> None:
    models = heavy(40)
    fleet.register(models)
    fleet.promote(fleet.release().number)
    small = {key: b"small " + key.encode() for key in models}
    fleet.register(small)
    fleet.promote(fleet.release().number)
    assert fleet.manifest(2).shards == 2  # what replaces what was not known beforehand
    release = fleet.release()
    assert fleet.manifest(release.number).shards == 1
    assert fleet.contents(release.number) == expected(small, 2)


def test_keys_are_sharded_by_the_fields_the_group_chose(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, KeySchema(("store", "brand"), shard_by=("store",)))
    models = {f"store={n % 20}/brand=b{n}": raw for n, raw in enumerate(heavy(80).values())}
    fleet.register(models)
    release = fleet.release()
    manifest = fleet.manifest(release.number)
    assert manifest.shards == 4
    where: dict[str, set[int]] = {}
    for segment in fleet.segments(release.number):
        for row in range(len(segment)):
            where.setdefault(segment.entry(row).key.split("/")[0], set()).add(segment.header.shard)
    assert all(len(shards) == 1 for shards in where.values())
    assert fleet.contents(release.number) == expected(models)


def test_a_large_model_is_copied_by_no_hotfix(fleet: Fleet) -> None:
    large = random.Random(1).randbytes(9 << 20)
    fleet.register(raws(3) | {"store=50/brand=b": large})
    first = fleet.release()
    assert first.size < 100_000
    assert first.report["stored_native"] == {"unknown": 3, "large": 1}
    fleet.promote(first.number)
    fleet.register({"store=1/brand=b": b"hotfix"})
    second = fleet.release()
    assert second.size < 100_000
    assert fleet.contents(second.number)["store=50/brand=b"] == (1, large)


def test_a_build_writes_no_more_than_one_segment_into_memory_at_once(fleet: Fleet) -> None:
    fleet.register(heavy(70))  # 35 MB of frames
    number = fleet.begin()
    tracemalloc.start()
    try:
        fleet.build(number)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
