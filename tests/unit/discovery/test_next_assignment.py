"""Whatever happens to seats and groups, a shard that somebody has ready stays with one who has it ready."""

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.assignment import MOST, Seat
from discovery.attendance import NOBODY, Attending, attend
from discovery.next_assignment import Want, next_assignment
from discovery.seats import GroupSeats, Move, PoolSeats
from discovery.snapshot import Member

GRACE = 15.0


def here(*names, pool="default", zones=1):
    return {
        name: Attending(Seat(name, zone=f"z{number % zones}"), pool, "here", serves=True)
        for number, name in enumerate(names)
    }


def away(seats, name, standing="missed", *, serves=False):
    return seats | {name: replace(seats[name], standing=standing, serves=serves)}


def want(*counts, group="oj", replicas=2, **options):
    return Want(group, replicas, frozenset(counts), **options)


def settled(seats, *wants, stored=None, pool="default"):
    """What comes of it when every seat takes up everything at once."""
    stored = stored or PoolSeats()
    for _ in range(10):
        decided = next_assignment(stored, pool, wants, seats, set(seats))
        if decided == stored.groups:
            return stored
        stored = PoolSeats(stored.number + 1, decided)
    raise AssertionError("no fixpoint")


def held(stored, group="oj", count=None):
    shards = stored.groups[group].shards
    return shards[count or max(shards)]


def test_new_shards_are_coming_until_their_seats_have_taken_them_up():
    first = PoolSeats(1, next_assignment(PoolSeats(), "default", [want(8)], here("a", "b", "c"), ()))
    assert all(len(seats) == 2 for seats in held(first))
    assert all(set(move.coming) == set(held(first)[shard]) for shard, move in first.groups["oj"].moves[8].items())
    waiting = next_assignment(first, "default", [want(8)], here("a", "b", "c"), ())
    assert waiting == first.groups
    after = next_assignment(first, "default", [want(8)], here("a", "b", "c"), {"a", "b", "c"})
    assert not after["oj"].moves


def test_a_shard_that_moves_is_served_by_who_had_it_until_all_the_new_have_it():
    seats = here("a", "b")
    before = settled(seats, want(16, replicas=1))
    seats |= here("c")
    moving = PoolSeats(9, next_assignment(before, "default", [want(16, replicas=1)], seats, {"a", "b"}))
    moves = moving.groups["oj"].moves[16]
    assert moves
    for shard, move in moves.items():
        assert move.coming == ("c",)
        assert held(moving)[shard] == (*held(before)[shard], "c")
        assert move.former == held(before)[shard]
    done = next_assignment(moving, "default", [want(16, replicas=1)], seats, {"a", "b", "c"})
    assert not done["oj"].moves
    assert {done["oj"].shards[16][shard] for shard in moves} == {("c",)}


def test_a_seat_that_is_missed_for_a_moment_loses_nothing():
    seats = here("a", "b", "c")
    before = settled(seats, want(16))
    assert next_assignment(before, "default", [want(16)], away(seats, "b"), {"a", "c"}) == before.groups


def test_a_seat_that_is_gone_is_replaced():
    seats = here("a", "b", "c")
    before = settled(seats, want(16))
    after = settled(away(seats, "b", "gone"), want(16), stored=before)
    assert all(set(names) == {"a", "c"} for names in held(after))


def test_a_shard_of_which_all_seats_are_missed_is_assigned_anew_at_once():
    seats = here("a", "b", "c")
    before = settled(seats, want(16, replicas=1))
    lost = [shard for shard, names in enumerate(held(before)) if names == ("b",)]
    assert lost
    after = next_assignment(before, "default", [want(16, replicas=1)], away(seats, "b"), {"a", "c"})
    for shard, names in enumerate(after["oj"].shards[16]):
        if shard in lost:
            assert names[0] == "b"  # it is the first to serve if it comes back before the other is ready
            assert after["oj"].moves[16][shard] == Move(names[1:], ("b",))
            assert names[1] in ("a", "c")
        else:
            assert names == held(before)[shard]


def test_a_seat_that_was_never_seen_is_awaited_before_its_shards_are_assigned_anew():
    seats = here("a", "b", "c")
    before = settled(seats, want(16, replicas=1))
    early = here("a") | {name: Attending(Seat(name), None, "awaited", serves=False) for name in ("b", "c")}
    assert next_assignment(before, "default", [want(16, replicas=1)], early, {"a"}) == before.groups


def test_with_no_seat_here_everything_stays_and_only_counts_that_nobody_wants_go():
    seats = here("a", "b")
    before = settled(seats, want(8), want(4, 2, group="milk"))
    nobody = {name: replace(seat, standing="gone", serves=False) for name, seat in seats.items()}
    after = next_assignment(before, "default", [want(8), want(2, group="milk")], nobody, ())
    assert after["oj"] == before.groups["oj"]
    assert after["milk"].shards == {2: before.groups["milk"].shards[2]}
    assert next_assignment(before, "default", [], nobody, ()) == {}


@pytest.mark.parametrize(("old", "new"), [(16, 32), (32, 16), (16, 24), (1, 64)])
def test_a_new_count_of_shards_lies_where_the_same_slots_lay(old, new):
    seats = here(*"abcdefgh")
    before = settled(seats, want(old, replicas=1))
    after = settled(seats, want(old, new, replicas=1), stored=before)
    same = [
        held(after, count=new)[shard] == held(before, count=old)[(2 * shard + 1) * old // (2 * new)]
        for shard in range(new)
    ]
    if old >= 16:  # one shard that becomes many must be given away by the one seat that holds it
        assert held(after, count=old) == held(before)
        assert sum(same) >= 0.75 * new
    assert set(settled(seats, want(new, replicas=1), stored=after).groups["oj"].shards) == {new}


def test_a_group_that_goes_to_another_pool_is_served_where_it_was_until_the_new_pool_has_it():
    seats = here("a", "b") | here("x", "y", pool="gpu")
    before = settled(seats, want(4))
    wanted = want(4, elsewhere=before.groups["oj"])
    moving = PoolSeats(1, next_assignment(PoolSeats(), "gpu", [wanted], seats, ()))
    for shard, names in enumerate(held(moving)):
        assert set(names[:2]) == {"a", "b"}
        assert set(names[2:]) == {"x", "y"} == set(moving.groups["oj"].moves[4][shard].coming)
    done = settled(seats, want(4), stored=moving, pool="gpu")
    assert {frozenset(names) for names in held(done)} == {frozenset({"x", "y"})}


def test_fewer_replicas_stay_with_who_is_here_and_has_them():
    seats = here("a", "b", "c")
    before = settled(seats, want(16))
    after = next_assignment(before, "default", [want(16, replicas=1)], away(seats, "b"), {"c"})
    for names in after["oj"].shards[16]:
        assert "c" in names or names[0] == "a"


@dataclass
class Cluster:
    """Seats that map what is listed when they take it up, and forget it when they die; an assigner over them."""

    stored: PoolSeats = field(default_factory=PoolSeats)
    states: dict[str, str] = field(default_factory=dict)
    took: dict[str, int] = field(default_factory=dict)
    mapped: dict[str, set] = field(default_factory=dict)
    attendance: object = NOBODY
    now: float = 0.0
    counts: tuple = (4,)
    replicas: int = 2

    def join(self, seat):
        self.states[seat] = "alive"

    def die(self, seat):
        self.states.pop(seat, None)
        self.took.pop(seat, None)
        self.mapped.pop(seat, None)

    def drain(self, seat):
        if seat in self.states:
            self.states[seat] = "draining"

    def take_up(self, seat):
        if self.states.get(seat) == "alive":
            self.took[seat] = self.stored.number
            self.mapped[seat] = {place for place, names in self.listed().items() if seat in names}

    def listed(self):
        found = self.stored.groups.get("oj", GroupSeats()).shards
        return {(count, shard): names for count, shards in found.items() for shard, names in enumerate(shards)}

    def ready(self):
        """For each shard who is listed, lives and has it mapped."""
        return {
            place: {seat for seat in names if seat in self.states and place in self.mapped.get(seat, ())}
            for place, names in self.listed().items()
        }

    def assign(self):
        members = [
            Member(seat, seat, state, ("worker",), {"assigned": "yes", "seat": seat})
            for seat, state in self.states.items()
        ]
        named = {seat for names in self.listed().values() for seat in names}
        self.attendance = attend(self.attendance, members, named, self.now, GRACE)
        ready = {
            seat
            for seat, state in self.states.items()
            if state == "alive" and self.took.get(seat) == self.stored.number
        }
        wanted = Want("oj", self.replicas, frozenset(self.counts))
        decided = next_assignment(self.stored, "default", [wanted], self.attendance.seats, ready)
        if decided == self.stored.groups:
            return False
        self.stored = PoolSeats(self.stored.number + 1, decided)
        return True

    def settle(self):
        for _ in range(30):
            changed = self.assign()
            for seat in list(self.states):
                self.take_up(seat)
            if not changed:
                return
        raise AssertionError("it never comes to rest")


SEATS = st.integers(0, 7).map("w{}".format)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["join", "die", "drain", "take_up", "take_up"]), SEATS),
    st.tuples(st.sampled_from(["assign", "assign", "settle"]), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 16.0])),
    st.tuples(st.just("counts"), st.sampled_from([(4,), (8,), (4, 8), (6, 4)])),
    st.tuples(st.just("replicas"), st.integers(1, 3)),
)


def play(cluster, step, value):
    if step == "wait":
        cluster.now += value
    elif step in ("counts", "replicas"):
        setattr(cluster, step, value)
    elif step in ("assign", "settle"):
        getattr(cluster, step)()
    else:
        getattr(cluster, step)(value)


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_a_shard_that_somebody_has_ready_always_keeps_one_who_has_it_ready(steps):
    cluster = Cluster()
    for step, value in steps:
        before = cluster.ready()
        number = cluster.stored.number
        play(cluster, step, value)
        if step == "assign" and cluster.stored.number > number:
            after = cluster.ready()
            for place, seats in before.items():
                if seats and place in after:
                    assert after[place], (place, seats)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_it_comes_to_rest_with_all_replicas_and_no_seat_overloaded(steps):
    cluster = Cluster()
    for step, value in steps:
        play(cluster, step, value)
    for seat in [seat for seat, state in cluster.states.items() if state == "draining"]:
        cluster.die(seat)
    for seat in "xyz":
        cluster.join(seat)
    cluster.settle()
    cluster.now += 2 * GRACE
    cluster.settle()
    assert not cluster.stored.groups["oj"].moves
    loads = Counter(seat for names in cluster.listed().values() for seat in names)
    assert set(loads) <= set(cluster.states)
    assert {len(names) for names in cluster.listed().values()} == {min(cluster.replicas, len(cluster.states))}
    mean = sum(loads.values()) / len(cluster.states)
    assert max(loads.values()) <= max(MOST * mean, mean + 1)
