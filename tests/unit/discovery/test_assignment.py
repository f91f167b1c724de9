"""Shards have their replicas, no seat has too many, and nothing moves that need not."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.assignment import MOST, Demand, Seat, assign, loads, moved


def seats(count, zones=1, first=0):
    return [Seat(f"w{number}", zone=f"z{number % zones}") for number in range(first, first + count)]


def demands(count, replicas=2):
    return [Demand(f"oj/{count}/{number}", replicas) for number in range(count)]


def shares_a_zone(assignment, of):
    zones = {seat.name: seat.zone for seat in of}
    return [shard for shard, names in assignment.items() if len({zones[name] for name in names}) < len(names)]


FLEETS = st.lists(
    st.builds(
        Seat,
        name=st.integers(0, 40).map("w{}".format),
        weight=st.sampled_from([0.5, 1.0, 2.0]),
        zone=st.sampled_from("abc"),
    ),
    max_size=15,
    unique_by=lambda seat: seat.name,
)
SHARDS = st.lists(
    st.builds(Demand, shard=st.integers(0, 60).map("g/{}".format), replicas=st.integers(1, 3)),
    max_size=60,
    unique_by=lambda demand: demand.shard,
)


@settings(max_examples=200, deadline=None)
@given(FLEETS, FLEETS, SHARDS, SHARDS)
def test_every_shard_has_its_replicas_on_different_seats_and_a_second_look_changes_nothing(old, new, had, has):
    before = assign({}, old, had)
    after = assign(before, new, has)
    assert set(after) == {demand.shard for demand in has}
    names = {seat.name for seat in new}
    for demand in has:
        held = after[demand.shard]
        assert len(held) == len(set(held)) == min(demand.replicas, len(new))
        assert set(held) <= names
    assert assign(after, new, has) == after


@settings(max_examples=200, deadline=None)
@given(FLEETS, FLEETS, SHARDS)
def test_nothing_depends_on_the_order_in_which_anything_is_listed(old, new, has):
    before = assign({}, old, has)
    again = assign(dict(reversed(before.items())), new[::-1], has[::-1])
    assert again == assign(before, new, has)


@pytest.mark.parametrize("zones", [1, 3])
def test_no_seat_has_more_than_a_quarter_over_the_mean(zones):
    fleet = seats(50, zones)
    made = assign({}, fleet, demands(550))
    assert max(loads(made, [seat.name for seat in fleet]).values()) <= MOST * 22
    assert not shares_a_zone(made, fleet) or zones == 1


def test_a_seat_that_leaves_moves_what_it_held_and_nothing_else():
    fleet = seats(40, 3)
    before = assign({}, fleet, demands(440))
    for gone in (fleet[0], fleet[17], fleet[39]):
        rest = [seat for seat in fleet if seat is not gone]
        after = assign(before, rest, demands(440))
        assert moved(before, after) == loads(before, [gone.name])[gone.name]
        for shard, names in before.items():
            assert set(names) - {gone.name} <= set(after[shard])


def test_a_seat_that_comes_takes_its_fair_share_from_those_that_hold_most_and_nothing_else_moves():
    fleet = seats(40, 3)
    before = assign({}, fleet, demands(440))
    after = assign(before, [*fleet, Seat("new", zone="z1")], demands(440))
    held = loads(after, ["new"])
    assert moved(before, after) == held["new"] == math.floor(880 / 41)
    assert max(held.values()) <= max(loads(before, ["w0"]).values())


def test_load_stays_within_bounds_while_seats_come_and_go():
    fleet = seats(12, 3)
    made = assign({}, fleet, demands(300))
    for step in range(60):
        fleet = fleet[1:] if step % 3 == 0 else [*fleet, *seats(1, 3, first=100 + step)]
        before, made = made, assign(made, fleet, demands(300))
        mean = 600 / len(fleet)
        if mean >= 20:
            assert max(loads(made, [seat.name for seat in fleet]).values()) <= MOST * mean
        assert moved(before, made) <= max(mean, *loads(before, ["w0"]).values())


def test_a_seat_of_twice_the_weight_holds_about_twice_as_much():
    fleet = [Seat("large", 2.0), *seats(9)]
    held = loads(assign({}, fleet, demands(300, 1)), ["large"])
    assert held["large"] == pytest.approx(2 * 300 / 11, rel=0.25)


def test_a_zone_that_comes_gets_a_replica_of_what_had_both_in_one():
    fleet = seats(10, 1)
    before = assign({}, fleet, demands(100))
    grown = [*fleet, *[Seat(f"n{number}", zone="z9") for number in range(10)]]
    assert not shares_a_zone(assign(before, grown, demands(100)), grown)


def test_a_zone_too_small_for_its_share_leaves_replicas_together_rather_than_be_overloaded():
    fleet = [*seats(20), Seat("alone", zone="z9")]
    made = assign({}, fleet, demands(210))
    assert loads(made, ["alone"])["alone"] <= MOST * 20


def test_many_seats_at_once_take_their_shares():
    fleet = seats(10)
    before = assign({}, fleet, demands(200))
    grown = [*fleet, *seats(10, first=50)]
    counts = loads(assign(before, grown, demands(200)), [seat.name for seat in grown])
    assert min(counts.values()) >= 15
    assert max(counts.values()) <= 25


def test_shards_that_are_there_no_more_make_room():
    fleet = seats(10)
    before = assign({}, fleet, demands(400))
    few = demands(400)[:100]
    after = assign(before, fleet, few)
    assert set(after) == {demand.shard for demand in few}
    assert max(loads(after, ["w0"]).values()) <= MOST * 20


def test_nobody_to_hold_them_leaves_shards_with_nobody():
    assert assign({"oj/1/0": ("gone",)}, [], demands(1)) == {"oj/1/0": ()}


def test_the_assignment_of_a_fleet_is_the_same_in_every_version():
    assert assign({}, seats(5, 2), demands(4)) == {
        "oj/4/0": ("w1", "w0"),
        "oj/4/1": ("w3", "w2"),
        "oj/4/2": ("w3", "w4"),
        "oj/4/3": ("w4", "w1"),
    }


def test_a_seat_is_not_left_with_nothing_where_a_whole_shard_is_its_share():
    before = assign({}, seats(2), demands(4, 1))
    after = assign(before, seats(3), demands(4, 1))
    assert moved(before, after) == 1 == loads(after, ["w2"])["w2"]
    assert assign(after, seats(3), demands(4, 1)) == after
