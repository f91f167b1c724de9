"""What is stored of seats is read as it was written, and what did not change stays the same object."""

from dataclasses import replace

import pytest

from discovery.seating import pool_of, seat_name, seat_of, share
from discovery.seats import GroupSeats, Move, PoolSeats, find_seats, read_pool, write_groups
from discovery.snapshot import Member
from tests.support.snapshots import group

OJ = GroupSeats({2: (("a", "b"), ("b", "c", "a")), 16: ((),) * 16}, {2: {1: Move(("a",), ("b",))}})
MILK = GroupSeats({1: (("a",),)})


def member(**metadata):
    return Member("m", "http://m:1", "alive", ("worker",), metadata)


def test_an_assignment_is_read_as_it_was_written():
    assert read_pool(7, write_groups({"oj": OJ, "milk": MILK})) == PoolSeats(7, {"oj": OJ, "milk": MILK})
    assert read_pool(1, "{}") == PoolSeats(1)


def test_groups_that_did_not_change_are_the_same_objects():
    before = read_pool(7, write_groups({"oj": OJ, "milk": MILK}))
    after = read_pool(8, write_groups({"oj": MILK, "milk": MILK}), before)
    assert after.groups["milk"] is before.groups["milk"]
    assert after.groups["oj"] == MILK


def test_a_group_that_changes_its_pool_is_where_it_was_until_the_new_pool_has_taken_it_up():
    old, new = PoolSeats(1, {"oj": OJ}), PoolSeats(1, {"oj": MILK})
    assert find_seats({"old": old, "new": PoolSeats(3)}, "oj", "new") is OJ
    assert find_seats({"old": old, "new": new}, "oj", "new") is MILK
    assert find_seats({"old": old}, "milk", "old") == GroupSeats()


def test_a_member_that_says_nothing_sits_at_its_address_in_the_default_pool():
    assert (seat_name(member()), pool_of(member())) == ("http://m:1", "default")
    assert seat_of(member(seat="s", zone="z", weight="2.5")).weight == 2.5
    assert (seat_of(member(seat="s", zone="z")).name, seat_of(member(zone="z")).zone) == ("s", "z")


@pytest.mark.parametrize("weight", ["", "much", "0", "-1", "inf", "nan"])
def test_a_weight_that_is_none_counts_as_1(weight):
    assert seat_of(member(weight=weight)).weight == 1.0


def test_a_share_is_all_shards_in_which_the_seat_is_listed_and_unknown_for_a_count_nobody_assigned():
    view = group("oj", 1)
    assert share(view, 2, "a") is None
    view = replace(view, seats=OJ.shards)
    assert share(view, 2, "a") == {0, 1}
    assert share(view, 2, "c") == {1}
    assert share(view, 16, "a") == frozenset()
    assert share(view, 4, "a") is None
