import pytest

from registry.errors import GroupNotFoundError, ReleaseNotFoundError, ReleaseStateError, VersionNotFoundError
from registry.groups import delete_group
from registry.holds import drop_hold, put_hold
from registry.releases import (
    base_chain,
    begin_release,
    changed_slots,
    changes,
    fail_release,
    get_release,
    list_releases,
)
from registry.versions import FALLBACK_SLOT
from tests.support.registries import NOW, SCHEMA, Registry, digest

A, B, C = "store=1/brand=a", "store=2/brand=b", "store=3/brand=c"


def hold(registry: Registry, text: str, action: str, version: int | None = None, until: float | None = None) -> None:
    with registry.database.write() as conn:
        put_hold(
            conn,
            "oj",
            registry.key(text),
            action=action,
            version=version,
            reason="r",
            author="ann",
            until=until,
            now=NOW,
        )


def test_the_first_release_takes_the_newest_version_of_every_key(registry):
    registry.add_all({A: "a1", B: "b1", "brand=a": "f1", "": "all"})
    registry.add(A, "a2")
    begun = registry.begin()
    assert (begun.number, begun.state, begun.base, begun.through) == (1, "building", None, 5)
    assert registry.changed(1) == {A: 2, B: 1, "brand=a": 1, "": 1}


def test_a_release_without_a_base_is_built_upon_the_live_one(registry):
    registry.add(A, "a1")
    registry.flip(registry.release())
    registry.add(B, "b1")
    begun = registry.begin()
    assert (begun.base, registry.changed(2)) == (1, {B: 1})


def test_while_nothing_is_live_a_release_has_everything(registry):
    registry.add(A, "a1")
    registry.release()
    registry.add(B, "b1")
    begun = registry.begin()
    assert (begun.base, registry.changed(2)) == (None, {A: 1, B: 1})


def test_a_named_release_has_exactly_what_is_named(registry):
    registry.add_all({A: "a1", B: "b1"})
    registry.flip(registry.release())
    registry.add_all({A: "a2", B: "b2", C: "c1"})
    begun = registry.begin(named=[(A, 2)])
    assert (begun.through, registry.changed(2)) == (2, {A: 2})


def test_what_a_named_release_passed_over_comes_with_the_next_full_one(registry):
    registry.add(A, "a1")
    registry.flip(registry.release())
    registry.add_all({A: "a2", B: "b1"})
    registry.flip(registry.release(named=[(A, 2)]))
    registry.release()
    assert registry.changed(3) == {B: 1}  # a2 is in the base already
    assert registry.held(3) == {A: 2, B: 1}


def test_a_key_set_back_by_name_stays_so_in_the_next_full_release(registry):
    registry.add(A, "a1")
    registry.add(A, "a2")
    registry.flip(registry.release())
    registry.flip(registry.release(named=[(A, 1)]))
    registry.add(B, "b1")
    registry.release()
    assert registry.held(3) == {A: 1, B: 1}


def test_of_a_key_named_twice_the_last_version_counts(registry):
    registry.add(A, "a1")
    registry.add(A, "a2")
    registry.begin(named=[(A, 2), (A, 1)])
    assert registry.changed(1) == {A: 1}


def test_naming_a_version_that_does_not_exist_is_refused_and_leaves_no_release(registry):
    registry.add(A, "a1")
    with pytest.raises(VersionNotFoundError) as caught:
        registry.begin(named=[(A, 1), (A, 7)])
    assert (caught.value.field, caught.value.row) == ("set", 1)
    with registry.database.read() as conn:
        assert list_releases(conn, "oj") == []


def test_a_tombstone_is_a_change_that_takes_the_key_out(registry):
    registry.add_all({A: "a1", B: "b1"})
    registry.flip(registry.release())
    registry.delete(A)
    registry.release()
    with registry.database.read() as conn:
        [change] = changes(conn, "oj", 2, -1, 4096)
    assert change.version.tombstone
    assert registry.held(2) == {B: 1}


def test_registering_after_a_tombstone_brings_the_key_back(registry):
    registry.add(A, "a1")
    registry.flip(registry.release())
    registry.delete(A)
    registry.flip(registry.release())
    registry.add(A, "a1")
    registry.release()
    assert registry.held(3) == {A: 3}


def test_a_key_deleted_and_registered_between_two_releases_has_its_newest_version(registry):
    registry.add(A, "a1")
    registry.flip(registry.release())
    registry.delete(A)
    registry.add(A, "a2")
    registry.release()
    assert registry.changed(2) == {A: 3}


def test_an_explicit_base_need_not_be_live(registry):
    registry.add(A, "a1")
    registry.release()
    registry.add(A, "a2")
    registry.flip(registry.release())
    registry.add(B, "b1")
    begun = registry.begin(named=[(B, 1)], base=1)
    assert begun.base == 1
    assert registry.held(3) == {A: 1, B: 1}


def test_only_a_ready_release_can_be_a_base(registry):
    registry.add(A, "a1")
    registry.begin()
    with pytest.raises(ReleaseStateError, match="building"):
        registry.begin(base=1)
    registry.finish(1, blocked=True)
    with pytest.raises(ReleaseStateError, match="blocked"):
        registry.begin(base=1)
    with pytest.raises(ReleaseNotFoundError):
        registry.begin(base=9)


def test_versions_registered_while_a_release_is_built_belong_to_the_next(registry):
    registry.add(A, "a1")
    registry.begin()
    registry.add(A, "a2")
    registry.add(B, "b1")
    assert registry.changed(1) == {A: 1}
    registry.flip(registry.finish(1).number)
    registry.release()
    assert registry.changed(2) == {A: 2, B: 1}


def test_a_frozen_key_stays_as_the_base_has_it(registry):
    registry.add_all({A: "a1", B: "b1"})
    registry.flip(registry.release())
    registry.add_all({A: "a2", B: "b2"})
    hold(registry, A, "freeze")
    registry.release()
    assert registry.changed(2) == {B: 2}
    registry.release(named=[(A, 2), (B, 2)])
    assert registry.held(3) == {A: 1, B: 2}


def test_a_pinned_key_has_its_version_in_every_release(registry):
    for what in ("a1", "a2", "a3"):
        registry.add(A, what)
    registry.flip(registry.release())
    hold(registry, A, "pin", 2)
    registry.add(B, "b1")
    registry.flip(registry.release())
    assert registry.changed(2) == {A: 2, B: 1}
    registry.add(A, "a4")
    registry.flip(registry.release())
    assert registry.changed(3) == {}
    registry.release(named=[(A, 4)])
    assert registry.held(4) == {A: 2, B: 1}


def test_a_disabled_key_is_released_like_any_other(registry):
    hold(registry, A, "disable")
    registry.add(A, "a1")
    registry.release()
    assert registry.held(1) == {A: 1}


def test_a_hold_that_is_lifted_or_over_holds_nothing(registry):
    registry.add_all({A: "a1", B: "b1"})
    registry.flip(registry.release())
    hold(registry, A, "freeze", until=NOW + 10)
    hold(registry, B, "freeze")
    registry.add_all({A: "a2", B: "b2"})
    with registry.database.write() as conn:
        drop_hold(conn, "oj", registry.key(B))
    registry.begin(now=NOW + 10)
    assert registry.changed(2) == {A: 2, B: 2}


def test_changes_come_by_slot_and_only_from_the_slots_asked_for(registry):
    registry.add_all({f"store={n}/brand=a": f"m{n}" for n in range(40)} | {"brand=a": "f", "": "all"})
    registry.begin()
    with registry.database.read() as conn:
        slots = changed_slots(conn, "oj", 1)
        found = list(changes(conn, "oj", 1, -1, 4096))
        low, high = slots[5], slots[20]
        some = list(changes(conn, "oj", 1, low, high))
        partial = list(changes(conn, "oj", 1, FALLBACK_SLOT, 0))
    order = [(slot(change.key), change.key.id) for change in found]
    assert order == sorted(order)
    assert slots == sorted({place for place, _ in order})
    assert some == [change for change in found if low <= slot(change.key) < high]
    assert {change.key.text for change in partial} == {"brand=a", ""}


def slot(key) -> int:
    return SCHEMA.slot(key) if len(key.pairs) == 2 else FALLBACK_SLOT


def test_gates_and_counts_are_remembered(registry):
    registry.add(A, "a1")
    with registry.database.write() as conn:
        begun = begin_release(conn, "oj", base=None, named=None, gates={"max_lost": 0}, now=NOW)
    assert (begun.gates, begun.models, begun.manifest, begun.ready, dict(begun.report)) == (
        {"max_lost": 0},
        0,
        None,
        None,
        {},
    )
    ended = registry.finish(1)
    assert (ended.state, ended.models, ended.size, ended.ready) == ("ready", 1, 10, NOW)
    assert (ended.manifest, ended.report["added"]) == (digest("manifest 1"), 1)


def test_a_release_ends_once(registry):
    registry.add(A, "a1")
    registry.begin()
    registry.finish(1)
    with pytest.raises(ReleaseStateError, match="ready"):
        registry.finish(1, blocked=True)
    with registry.database.write() as conn, pytest.raises(ReleaseStateError):
        fail_release(conn, "oj", 1, {}, NOW)
    with registry.database.read() as conn:
        assert get_release(conn, "oj", 1).state == "ready"


def test_a_release_that_failed_says_why_and_what_it_left_comes_with_the_next(registry):
    registry.add(A, "a1")
    registry.begin()
    with registry.database.write() as conn:
        failed = fail_release(conn, "oj", 1, {"error": {"code": "x"}}, NOW)
    assert (failed.state, failed.report["error"]) == ("failed", {"code": "x"})
    registry.release()
    assert registry.held(2) == {A: 1}


def test_a_change_that_could_not_be_built_in_is_struck_out(registry):
    registry.add_all({A: "a1", B: "b1"})
    registry.flip(registry.release())
    registry.add_all({A: "a2", B: "b2"})
    registry.begin()
    registry.finish(2, failed=[A])
    assert registry.held(2) == {A: 1, B: 2}


def test_releases_are_listed_newest_first_with_their_chain_of_bases(registry):
    for n in range(3):
        registry.add(A, f"a{n}")
        registry.flip(registry.release())
    registry.release(base=1)
    with registry.database.read() as conn:
        assert [release.number for release in list_releases(conn, "oj")] == [4, 3, 2, 1]
        assert [release.number for release in list_releases(conn, "oj", limit=1)] == [4]
        assert [release.number for release in base_chain(conn, "oj", 3)] == [3, 2, 1]
        assert [release.number for release in base_chain(conn, "oj", 4)] == [4, 1]
        with pytest.raises(ReleaseNotFoundError):
            base_chain(conn, "oj", 5)


def test_a_release_of_nothing_is_empty(registry):
    begun = registry.begin()
    assert (begun.number, registry.changed(1)) == (1, {})
    with registry.database.read() as conn:
        assert changed_slots(conn, "oj", 1) == []


def test_a_deleted_group_begins_no_release(registry):
    with registry.database.write() as conn:
        delete_group(conn, "oj", confirm="oj")
    with pytest.raises(GroupNotFoundError):
        registry.begin()
