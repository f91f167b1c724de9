import pytest
from sqlalchemy import func, select

from registry.deployments import want
from registry.groups import delete_group
from registry.holds import put_hold
from registry.imports import create_import
from registry.records import Version
from registry.releases import get_release
from registry.retention import (
    drop_versions,
    held_sequences,
    kept_releases,
    named_digests,
    purge_groups,
    retire_releases,
    staged_in_use,
)
from registry.tables import metadata
from registry.tasks import claim, enqueue, finish
from registry.versions import history
from tests.support.registries import NOW, Registry, digest

A, B = "store=1/brand=a", "store=2/brand=b"


def kept(registry: Registry) -> list[int]:
    with registry.database.read() as conn:
        return kept_releases(conn, "oj")


def nightly(registry: Registry, nights: int, *, first: int = 0) -> None:
    """A new model of A every night, released and live; B has one model for ever."""
    for night in range(first, first + nights):
        registry.add(A, f"a{night}")
        registry.flip(registry.release(), NOW + night)


def drop(registry: Registry, **given) -> int:
    with registry.database.write() as conn:
        return drop_versions(conn, "oj", **given).versions


def numbers(registry: Registry, text: str) -> list[int]:
    with registry.database.read() as conn:
        return [item.version.number for item in history(conn, "oj", registry.key(text))]


def test_the_last_ten_built_releases_are_kept(registry):
    nightly(registry, 13)
    assert kept(registry) == list(range(4, 14))


def test_what_is_live_wanted_or_being_built_upon_is_kept_however_old(registry):
    nightly(registry, 3)
    for n in range(14):
        registry.add(B, f"b{n}")
        registry.release()
    registry.flip(1)
    with registry.database.write() as conn:
        want(conn, "oj", 2, NOW + 10)
    registry.begin(base=3)
    assert kept(registry) == [1, 2, 3, *range(8, 19)]


def test_retiring_spares_what_is_kept_and_retires_once(registry):
    nightly(registry, 12)
    with registry.database.write() as conn:
        assert retire_releases(conn, "oj", range(1, 13)) == 2
        assert retire_releases(conn, "oj", range(1, 13)) == 0
        assert [get_release(conn, "oj", n).state for n in (1, 2, 3, 12)] == ["retired", "retired", "ready", "ready"]


def test_a_retired_release_is_neither_live_nor_a_base_again(registry):
    nightly(registry, 12)
    with registry.database.write() as conn:
        retire_releases(conn, "oj", [1])
    with pytest.raises(Exception, match="retired"):
        registry.flip(1)
    with pytest.raises(Exception, match="retired"):
        registry.begin(base=1)


def test_versions_that_no_kept_release_holds_are_dropped(registry):
    registry.add(B, "b0")
    nightly(registry, 13)
    assert drop(registry) == 3
    assert numbers(registry, A) == list(range(13, 3, -1))
    assert numbers(registry, B) == [1]
    assert drop(registry) == 0


def test_what_kept_releases_hold_survives_and_can_still_be_gone_back_to(registry):
    registry.add(B, "b0")
    nightly(registry, 13)
    before = {number: registry.held(number) for number in kept(registry)}
    drop(registry)
    assert {number: registry.held(number) for number in kept(registry)} == before
    registry.flip(4)
    registry.add(B, "b1")
    assert registry.held(registry.release()) == {A: 4, B: 2}


def test_nothing_is_dropped_before_there_is_a_release(registry):
    for n in range(3):
        registry.add(A, f"a{n}")
    assert drop(registry) == 0


def test_versions_newer_than_any_kept_release_stay(registry):
    nightly(registry, 11)
    registry.add(A, "unreleased")
    registry.add(A, "newest")
    drop(registry)
    assert numbers(registry, A) == [13, 12, *range(11, 1, -1)]


def test_a_pinned_version_and_one_to_keep_stay(registry):
    nightly(registry, 13)
    key = registry.key(A)
    with registry.database.write() as conn:
        put_hold(conn, "oj", key, action="pin", version=1, reason="", author="", until=None, now=NOW)
    assert drop(registry, keep=frozenset({(key.id, 2)})) == 1
    assert numbers(registry, A)[-3:] == [4, 2, 1]


def test_a_version_held_through_a_named_release_stays(registry):
    nightly(registry, 2)
    registry.flip(registry.release(named=[(A, 1)]))
    for n in range(12):
        registry.add(B, f"b{n}")
        registry.flip(registry.release())
    drop(registry)
    assert registry.held(kept(registry)[-1])[A] == 1
    assert 1 in numbers(registry, A)


def test_a_withdrawn_newest_version_stays_and_so_does_its_mark(registry):
    nightly(registry, 12)
    registry.flip(11)
    drop(registry)
    with registry.database.read() as conn:
        newest: Version = history(conn, "oj", registry.key(A))[0].version
    assert (newest.number, newest.withdrawn) == (12, True)


def test_the_history_of_a_version_that_stays_does_not_swallow_the_time_of_those_that_went(registry):
    nightly(registry, 13)
    key = registry.key(A)
    with registry.database.write() as conn:
        put_hold(conn, "oj", key, action="pin", version=1, reason="", author="", until=None, now=NOW)
        first = history(conn, "oj", key)[-1]
    drop(registry)
    with registry.database.read() as conn:
        assert history(conn, "oj", key)[-1] == first


def test_dropping_goes_on_step_by_step(registry):
    nightly(registry, 16)
    total, steps, after = 0, 0, 0
    while True:
        with registry.database.write() as conn:
            step = drop_versions(conn, "oj", after=after, limit=4)
        total, steps = total + step.versions, steps + 1
        if step.after is None:
            break
        after = step.after
    assert (total, numbers(registry, A)) == (6, list(range(16, 6, -1)))
    assert steps > 1


def test_what_is_dropped_takes_its_tags_and_changes_along(registry):
    for n in range(12):
        registry.add(A, f"a{n}", tags={"night": str(n)})
        registry.flip(registry.release())
    drop(registry)
    with registry.database.read() as conn:
        rows = {
            name: conn.execute(select(func.count()).select_from(metadata.tables[name])).scalar_one()
            for name in ("model_versions", "version_tags", "release_changes", "heads")
        }
    assert rows == {"model_versions": 10, "version_tags": 10, "release_changes": 10, "heads": 1}


def test_bundles_and_manifests_are_named_while_something_needs_them(registry):
    nightly(registry, 12)
    with registry.database.write() as conn:
        retire_releases(conn, "oj", range(1, 13))
        drop_versions(conn, "oj")
        named = named_digests(conn)
    assert named == {digest(f"bundle of a{n}") for n in range(2, 12)} | {digest(f"manifest {n}") for n in range(3, 13)}


def test_uploads_are_in_use_until_their_work_has_ended(registry):
    with registry.database.write() as conn:
        create_import(conn, "oj", source="s1", digest=digest("f"), on_error="fail", runtime=None, now=NOW)
        enqueue(conn, "prove", "oj", {"staged": "s2"}, NOW)
        assert staged_in_use(conn) == {"s1", "s2"}
        task = claim(conn, "b1", frozenset(), ["prove"], NOW)
        assert task is not None
        assert staged_in_use(conn) == {"s1", "s2"}
        finish(conn, task, {})
        assert staged_in_use(conn) == {"s1"}
        delete_group(conn, "oj", confirm="oj")
        assert staged_in_use(conn) == set()


def test_a_deleted_group_names_nothing_and_is_purged_bit_by_bit(registry):
    nightly(registry, 12)
    with registry.database.write() as conn:
        create_import(conn, "oj", source="s1", digest=digest("f"), on_error="fail", runtime=None, now=NOW)
        delete_group(conn, "oj", confirm="oj")
        assert named_digests(conn) == set()
    steps = 1
    while True:
        with registry.database.write() as conn:
            if not purge_groups(conn, limit=10):
                break
        steps += 1
    assert steps > 3
    with registry.database.read() as conn:
        left = {
            name: conn.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }
    assert {name for name, rows in left.items() if rows} == {"revision"}


def test_purging_spares_living_groups(registry):
    registry.add(A, "a1")
    with registry.database.write() as conn:
        assert not purge_groups(conn)
    assert numbers(registry, A) == [1]


def test_of_each_release_the_newest_change_in_its_chain_is_held():
    changes = {1: 10, 3: 30, 4: 40}
    assert held_sequences(changes, [frozenset({1}), frozenset({2, 1})]) == {10}
    assert held_sequences(changes, [frozenset({5, 3, 1})]) == {30}
    assert held_sequences(changes, [frozenset({2}), frozenset()]) == set()
