"""An assigner over a real registry and real leases: what it stores, and that any number of them may run."""

import pytest

from discovery.assigning import Assigner
from discovery.seating import ANNOUNCED
from discovery.snapshots import read_snapshot
from registry.assignments import assignment_numbers
from registry.deployments import flip, unwant, want
from registry.groups import delete_group, place_group
from registry.records import Deployment
from tests.support.houses import House, worker


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path / "home")
    house.group()
    yield house
    house.close()


class Watched:
    """Stands where a watcher stands: shows the picture of its last look."""

    def __init__(self, house):
        self.house = house
        self.current = None
        self.look()

    def look(self):
        house = self.house
        self.current = read_snapshot(house.database, house.store, house.membership, self.current, house.now())
        return self.current


@pytest.fixture
def watched(house):
    return Watched(house)


@pytest.fixture
def assigner(house, watched):
    return new_assigner(house, watched)


def new_assigner(house, watched):
    return Assigner(house.database, house.membership, lambda: watched.current, clock=house.clock)


def join(house, *seats, pool="default", process="1"):
    for seat in seats:
        said = {"assigned": "yes", "seat": seat, "pool": pool}
        house.membership.join(worker(f"{seat}-{process}", metadata=said))


def make_live(house, number, name="oj"):
    with house.database.write() as connection:
        flip(connection, name, {"blue": Deployment("blue", number, 100)}, if_match=None, author="", now=house.now())


def take_up(house, watched, *members, pool="default"):
    number = watched.look().assignments[pool].number
    for member in members:
        house.membership.announce(member, [(f"{ANNOUNCED}{pool}", number)])


def seats(watched, count=8, name="oj"):
    return watched.look().groups[name].seats.get(count)


def numbers(house):
    with house.database.read() as connection:
        return dict(assignment_numbers(connection))


def test_a_house_of_workers_that_hold_everything_is_left_alone(house, watched, assigner):
    house.membership.join(worker("serves-all"))
    house.release(shards=8)
    make_live(house, 1)
    watched.look()
    assert assigner.assign_once() == 0
    assert numbers(house) == {}
    assert watched.look().groups["oj"].seats == {}


def test_shards_are_assigned_and_come_to_rest_once_they_are_taken_up(house, watched, assigner):
    join(house, "a", "b", "c")
    house.release(shards=8)
    make_live(house, 1)
    watched.look()
    assert assigner.assign_once() == 1
    assert {len(names) for names in seats(watched)} == {2}
    assert watched.current.groups["oj"].moves
    assert assigner.assign_once() == 0
    take_up(house, watched, "a-1", "b-1")
    assert assigner.assign_once() == 1
    take_up(house, watched, "a-1", "b-1", "c-1")
    assert assigner.assign_once() == 1
    assert not watched.look().groups["oj"].moves
    before = numbers(house)
    for _ in range(3):
        take_up(house, watched, "a-1", "b-1", "c-1")
        assert assigner.assign_once() == 0
    assert numbers(house) == before


def settle(house, watched, assigner, *members, pool="default"):
    watched.look()
    for _ in range(10):
        written = assigner.assign_once()
        watched.look()
        if pool in watched.current.assignments:
            take_up(house, watched, *members, pool=pool)
        if not written:
            return
    raise AssertionError("it never comes to rest")


def test_a_seat_has_taken_up_an_assignment_when_all_its_living_members_have(house, watched, assigner):
    join(house, "a")
    join(house, "a", process="2")
    house.release(shards=8)
    make_live(house, 1)
    watched.look()
    assigner.assign_once()
    take_up(house, watched, "a-1")
    assert assigner.assign_once() == 0
    take_up(house, watched, "a-1", "a-2")
    assert assigner.assign_once() == 1


def test_a_seat_that_stays_away_is_replaced_after_the_grace_and_not_before(house, watched, assigner):
    join(house, "a", "b", "c")
    house.release(shards=8)
    make_live(house, 1)
    settle(house, watched, assigner, "a-1", "b-1", "c-1")
    before = seats(watched)
    house.membership.leave("b-1")
    watched.look()
    assert assigner.assign_once() == 0
    house.clock.sleep(14)
    alive(house)
    assert assigner.assign_once() == 0
    house.clock.sleep(1)
    alive(house)
    settle(house, watched, assigner, "a-1", "c-1")
    assert {frozenset(names) for names in seats(watched)} == {frozenset({"a", "c"})}
    assert any("b" in names for names in before)


def alive(house, *members):
    for member in members or ("a-1", "c-1"):
        house.membership.renew(member, state="alive", stats={})


def test_a_seat_that_is_taken_again_in_time_moves_nothing(house, watched, assigner):
    join(house, "a", "b", "c")
    house.release(shards=8)
    make_live(house, 1)
    settle(house, watched, assigner, "a-1", "b-1", "c-1")
    before = numbers(house)
    house.membership.leave("b-1")
    assigner.assign_once()
    house.clock.sleep(10)
    alive(house)
    join(house, "b", process="2")
    settle(house, watched, assigner, "a-1", "b-2", "c-1")
    house.clock.sleep(10)
    alive(house, "a-1", "b-2", "c-1")
    settle(house, watched, assigner, "a-1", "b-2", "c-1")
    assert numbers(house) == before


def test_a_count_of_shards_is_assigned_while_a_release_of_it_is_wanted(house, watched, assigner):
    join(house, "a", "b")
    house.release(shards=8)
    make_live(house, 1)
    settle(house, watched, assigner, "a-1", "b-1")
    house.release(shards=16)
    with house.database.write() as connection:
        want(connection, "oj", 2, house.now() + 60)
    settle(house, watched, assigner, "a-1", "b-1")
    assert set(watched.look().groups["oj"].seats) == {8, 16}
    with house.database.write() as connection:
        unwant(connection, "oj", 2)
    settle(house, watched, assigner, "a-1", "b-1")
    assert set(watched.look().groups["oj"].seats) == {8}
    with house.database.write() as connection:
        delete_group(connection, "oj", confirm="oj")
    settle(house, watched, assigner, "a-1", "b-1")
    assert watched.look().assignments["default"].groups == {}


def test_a_live_release_that_cannot_be_read_loses_no_seats(house, watched, assigner):
    join(house, "a", "b")
    release = house.release(shards=8)
    make_live(house, 1)
    settle(house, watched, assigner, "a-1", "b-1")
    house.damage(release.manifest)
    watched.current = None  # a process that starts now
    assert watched.look().groups["oj"].unread
    before = numbers(house)
    settle(house, watched, new_assigner(house, watched), "a-1", "b-1")
    assert numbers(house) == before


def test_a_group_moves_to_another_pool_and_is_served_by_the_old_one_until_then(house, watched, assigner):
    join(house, "a", "b")
    house.release(shards=8)
    make_live(house, 1)
    settle(house, watched, assigner, "a-1", "b-1")
    with house.database.write() as connection:
        place_group(connection, "oj", pool="gpu")
    settle(house, watched, assigner, "a-1", "b-1")
    assert {frozenset(names) for names in seats(watched)} == {frozenset({"a", "b"})}  # there is nobody in that pool
    join(house, "x", "y", pool="gpu")
    assigner.assign_once()
    watched.look()
    for _ in range(3):
        assigner.assign_once()
        assert {frozenset(names[:2]) for names in seats(watched)} == {frozenset({"a", "b"})}
    for _ in range(3):
        take_up(house, watched, "x-1", "y-1", pool="gpu")
        assigner.assign_once()
    assert {frozenset(names) for names in seats(watched)} == {frozenset({"x", "y"})}
    assert watched.look().assignments["default"].groups == {}


def test_of_two_assigners_one_is_heard_and_the_other_agrees(house, watched):
    join(house, "a", "b", "c")
    house.release(shards=8)
    make_live(house, 1)
    first, second = (new_assigner(house, Watched(house)) for _ in range(2))
    assert (first.assign_once(), second.assign_once()) == (1, 0)
    assert numbers(house) == {"default": 1}
    assert new_assigner(house, Watched(house)).assign_once() == 0


def test_before_anything_was_read_nothing_is_decided(house):
    assert Assigner(house.database, house.membership, lambda: None).assign_once() == 0


def test_it_runs_until_it_is_stopped(house, watched):
    assigner = new_assigner(house, watched)
    assigner.start()
    assigner.stop()
    assigner.stop()
    new_assigner(house, watched).stop()
