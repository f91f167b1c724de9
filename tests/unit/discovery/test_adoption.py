from dataclasses import replace

from discovery.adoption import to_adopt, to_announce, to_show
from discovery.seats import PoolSeats
from registry.keys import KeySchema
from tests.support.snapshots import group, snapshot


def serving(shown, name="oj"):
    return {view.release.number for view in shown.groups[name].deployments.values()}


def wanted(picture, name="oj"):
    return [release.number for release in picture.groups[name].wanted]


def test_what_is_all_mapped_is_shown_as_it_is():
    fresh = snapshot(group("oj", 2), group("milk", 7))
    shown, settled = to_show(fresh, snapshot(group("oj", 1)), {("oj", 2), ("milk", 7)})
    assert shown is fresh
    assert settled


def test_a_group_whose_release_could_not_be_mapped_stays_and_others_move_on():
    fresh = snapshot(group("oj", 2), group("milk", 7), number=9)
    shown, settled = to_show(fresh, snapshot(group("oj", 1), group("milk", 6)), {("oj", 1), ("milk", 7)})
    assert serving(shown) == {1}
    assert serving(shown, "milk") == {7}
    assert shown.revision == fresh.revision
    assert not settled


def test_all_else_of_a_group_that_stays_is_fresh():
    fresh = snapshot(group("oj", 2, preparing=(3,)))
    shown, _ = to_show(fresh, snapshot(group("oj", 1)), {("oj", 1)})
    assert wanted(shown) == [2, 3]


def test_a_group_that_was_never_shown_is_shown_though_it_is_not_ready():
    fresh = snapshot(group("oj", 2))
    for before in (None, snapshot(), snapshot(group("oj"))):
        shown, settled = to_show(fresh, before, set())
        assert serving(shown) == {2}
        assert not settled


def test_a_later_group_of_the_same_name_inherits_nothing():
    later = replace(group("oj", 1), schema=KeySchema(("region",)))
    shown, settled = to_show(snapshot(later), snapshot(group("oj", 9)), set())
    assert shown.groups["oj"] is later
    assert not settled


def test_a_release_that_is_only_prepared_holds_nothing_back():
    fresh = snapshot(group("oj", 1, preparing=(2,)))
    shown, settled = to_show(fresh, snapshot(group("oj", 1)), {("oj", 1)})
    assert shown is fresh
    assert settled


def test_what_is_shown_as_live_stays_mapped_until_it_is_not():
    assert wanted(to_adopt(snapshot(group("oj", 2)), snapshot(group("oj", 1)))) == [1, 2]
    assert wanted(to_adopt(snapshot(group("oj", 2)), snapshot(group("oj", 2)))) == [2]
    assert wanted(to_adopt(snapshot(group("oj", 2)), None)) == [2]
    assert wanted(to_adopt(snapshot(group("oj", 2)), snapshot(group("milk", 1)))) == [2]


def test_a_group_that_is_gone_is_gone():
    fresh = snapshot()
    assert not to_adopt(fresh, snapshot(group("oj", 1))).groups
    assert to_show(fresh, snapshot(group("oj", 1)), set()) == (fresh, True)


def test_only_what_is_both_wanted_and_held_is_announced():
    fresh = snapshot(group("oj", 1, preparing=(2,)), group("milk", 5))
    assert to_announce(fresh, {("oj", 1), ("oj", 2), ("oj", 9), ("gone", 1)}) == {("oj", 1), ("oj", 2)}


def test_an_assignment_is_taken_up_when_everything_wanted_of_its_pool_is_held():
    fresh = snapshot(group("oj", 1, preparing=(2,)), replace(group("milk", 7), pool="cold"))
    fresh = replace(fresh, assignments={"default": PoolSeats(5), "cold": PoolSeats(3)})
    assert to_announce(fresh, {("oj", 1), ("milk", 7)}) == {("oj", 1), ("milk", 7), ("@assignment/cold", 3)}
    assert to_announce(fresh, {("oj", 1), ("oj", 2)}) == {("oj", 1), ("oj", 2), ("@assignment/default", 5)}
    assert to_announce(snapshot(group("oj", 1)), {("oj", 1)}) == {("oj", 1)}


def test_an_assignment_is_not_taken_up_while_a_live_release_cannot_be_read():
    fresh = replace(snapshot(replace(group("oj"), unread=True)), assignments={"default": PoolSeats(5)})
    assert to_announce(fresh, ()) == frozenset()
