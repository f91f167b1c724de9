"""Promotion over real databases, with watchers in threads standing for the processes of a house."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from discovery.promotion import FAILPOINTS, promote
from discovery.seating import unserved
from discovery.seats import GroupSeats, Move, write_groups
from discovery.watch import SnapshotWatcher
from registry.assignments import store_assignment
from registry.deployments import get_deployments, wanted
from registry.errors import (
    DeploymentInvalidError,
    GroupNotFoundError,
    PreconditionFailedError,
    PromotionRefusedError,
    ReleaseNotFoundError,
    ReleaseStateError,
)
from registry.failpoints import VARIABLE
from registry.groups import delete_group
from registry.records import Deployment
from tests.support.houses import Adopter, House, segment_digest, worker


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path / "home")
    house.group()
    yield house
    house.close()


@pytest.fixture
def serve(house):
    """Start processes that watch, map and announce."""
    started = []

    def start(name, **changes):
        adopter, membership = Adopter(), house.open_membership()
        membership.join(worker(name, **changes))
        watcher = SnapshotWatcher(
            house.database, house.store, membership, adopter, member_id=name, interval=0.005, now=house.now
        )
        watcher.start()
        started.append(watcher)
        return adopter

    yield start
    for watcher in started:
        watcher.stop()


def go(house, target, **options):
    """Promote with a clock that moves only when promotion rests, and lets the watchers work meanwhile."""
    rested = threading.Event()

    def rest(seconds):
        house.clock.sleep(0.001)
        rested.wait(0.002)

    return promote(
        house.database,
        house.membership,
        house.store,
        "oj",
        target,
        **({"now": house.now, "clock": house.clock, "sleep": rest} | options),
    )


def state(house):
    with house.database.read() as connection:
        return get_deployments(connection, "oj"), wanted(connection, "oj", house.now())


def live(house):
    return {name: deployment.release for name, deployment in state(house)[0].deployments.items()}


def test_a_release_that_all_workers_hold_goes_live(house, serve):
    serve("a")
    serve("b")
    house.release()
    assert go(house, 1).kind == "promote"
    assert live(house) == {"blue": 1}
    assert house.membership.prepared("oj", 1) == {"a", "b"}


def test_the_release_is_mapped_everywhere_before_it_is_live(house, serve):
    adopters = [serve("a"), serve("b")]
    house.release()
    go(house, 1)
    for adopter in adopters:
        first = next(picture for picture in adopter.seen if picture.groups["oj"].wanted)
        assert first.groups["oj"].deployments == {}


def test_nobody_waits_for_members_to_hold_what_was_deleted(house, serve):
    adopter = serve("a")
    house.release()
    adopter.broken = {("oj", 1)}
    rested = []

    def rest(seconds):
        if not rested:
            with house.database.write() as connection:
                delete_group(connection, "oj", confirm="oj")
        rested.append(seconds)
        house.clock.sleep(seconds)

    with pytest.raises(GroupNotFoundError):
        go(house, 1, deadline_seconds=3600.0, sleep=rest)
    assert sum(rested) < 1.0


def test_a_worker_that_cannot_map_it_in_time_refuses_it_and_the_old_release_goes_on(house, serve):
    adopter = serve("a")
    serve("b")
    house.release()
    go(house, 1)
    house.release()
    adopter.broken = {("oj", 2)}
    before = state(house)[0].etag
    with pytest.raises(PromotionRefusedError, match=r"1 of 2 workers .*\(a\)") as caught:
        go(house, 2, deadline_seconds=0.2)
    assert caught.value.code == "promotion_refused"
    deployments, still_wanted = state(house)
    assert live(house) == {"blue": 1}
    assert deployments.etag == before
    assert 2 not in still_wanted


def test_a_worker_that_hangs_is_waited_for_until_the_deadline_and_no_longer(house, serve):
    hold = threading.Event()
    serve("a").before = lambda picture: hold.wait(20) if picture.groups["oj"].wanted else None
    house.release()
    try:
        with pytest.raises(PromotionRefusedError):
            go(house, 1, deadline_seconds=0.05)
        assert live(house) == {}
    finally:
        hold.set()


def test_a_dead_worker_is_not_waited_for(house, serve):
    house.membership.join(worker("dead"))
    house.release()
    serve("a")
    moments = []

    def rest(seconds):
        house.clock.sleep(0.1)
        moments.append(house.clock())
        house.membership.renew("keeper", state="alive", stats={})
        threading.Event().wait(0.002)

    house.membership.join(worker("keeper", services=("builder",)))
    assert go(house, 1, sleep=rest, deadline_seconds=10).kind == "promote"
    assert 2.9 < moments[-1] - moments[0] < 4


@pytest.mark.parametrize("changes", [{"services": ("builder",)}, {"state": "draining"}])
def test_a_member_that_takes_no_requests_is_not_waited_for(house, serve, changes):
    house.membership.join(worker("other", **changes))
    serve("a")
    house.release()
    assert go(house, 1).kind == "promote"


def test_an_offline_home_promotes_what_lies_whole_in_the_store(house):
    house.release()
    assert go(house, 1).kind == "promote"
    assert live(house) == {"blue": 1}
    assert state(house)[1] in ([], [1])


@pytest.mark.parametrize("part", ["manifest", "segment"])
@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_an_offline_home_refuses_what_is_not_whole(house, part, how):
    house.release()
    go(house, 1)
    release = house.release()
    digest = release.manifest if part == "manifest" else segment_digest("oj", 2)
    if how == "lost":
        house.store.delete(digest)
    else:
        house.damage(digest)
    with pytest.raises(PromotionRefusedError, match="not whole"):
        go(house, 2)
    assert live(house) == {"blue": 1}
    assert 2 not in state(house)[1]


def test_a_lower_number_is_a_rollback_and_the_same_number_is_no_change(house, serve):
    serve("a")
    for _ in range(2):
        house.release()
    go(house, 2)
    assert go(house, 2).kind == "same"
    assert go(house, 1).kind == "rollback"
    assert live(house) == {"blue": 1}


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (9, ReleaseNotFoundError),
        (2, ReleaseStateError),
        ({"pink": Deployment("pink", 1, 100)}, DeploymentInvalidError),
        ({"blue": Deployment("blue", 1, 90)}, DeploymentInvalidError),
        ({}, DeploymentInvalidError),
    ],
)
def test_what_cannot_be_live_is_refused_and_leaves_no_wish(house, serve, target, error):
    serve("a")
    house.release()
    house.release(blocked=True)
    with pytest.raises(error):
        go(house, target)
    assert live(house) == {}
    assert state(house)[1] == []


def test_an_unknown_group_is_named(house):
    with pytest.raises(GroupNotFoundError):
        promote(house.database, house.membership, house.store, "milk", 1)


def test_deployments_that_changed_meanwhile_are_not_overwritten(house, serve):
    serve("a")
    house.release()
    house.release()
    before = state(house)[0].etag
    go(house, 1, if_match=before)
    with pytest.raises(PreconditionFailedError):
        go(house, 2, if_match=before)
    assert live(house) == {"blue": 1}
    assert state(house)[1] == [1] or state(house)[1] == []


def test_promotions_at_the_same_time_each_go_live_in_turn(house, serve):
    serve("a")
    for _ in range(3):
        house.release()
    kinds = []

    def work(number):
        flipped = promote(house.database, house.open_membership(), house.store, "oj", number, now=house.now)
        kinds.append(flipped.kind)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kinds) == 4
    assert live(house)["blue"] in (1, 2, 3)


@pytest.mark.parametrize("name", FAILPOINTS)
def test_killed_between_any_two_steps_the_old_or_the_new_release_is_live_whole(house, name):
    house.release()
    go(house, 1)
    house.release()
    house.close()
    code = (
        "from pathlib import Path\n"
        "from tests.support.houses import House\n"
        "from discovery.promotion import promote\n"
        f"house = House(Path({str(house.home.root)!r}))\n"
        "promote(house.database, house.membership, house.store, 'oj', 2)\n"
    )
    environment = {**os.environ, VARIABLE: name}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -signal.SIGKILL
    assert live(house) == {"blue": 2 if name == "promotion.flipped" else 1}
    house.now.seconds = time.time() + 3600  # a wish that was left behind has ended
    assert state(house)[1] in ([], [live(house)["blue"]])
    with house.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def seated(name, pool="default"):
    return {"metadata": {"assigned": "yes", "seat": name, "pool": pool}}


def assign(house, *seats, moves=None, pool="default", number=0):
    """Store who holds the one shard of the group."""
    body = write_groups({"oj": GroupSeats({1: (seats,)}, {1: {0: moves}} if moves else {})})
    with house.database.write() as connection:
        assert store_assignment(connection, pool, number, body)


def test_only_workers_of_the_groups_pool_are_waited_for(house, serve):
    serve("a", **seated("a"))
    serve("b", **seated("b"))
    house.membership.join(worker("elsewhere", **seated("c", pool="gpu")))
    assign(house, "a")
    house.release()
    assert go(house, 1).kind == "promote"
    assert house.membership.prepared("oj", 1) == {"a", "b"}


def test_a_worker_of_the_pool_that_does_not_hold_its_share_is_waited_for(house, serve):
    serve("a", **seated("a"))
    house.membership.join(worker("b", **seated("b")))
    assign(house, "a")
    house.release()
    with pytest.raises(PromotionRefusedError, match=r"1 of 2 workers .* \(b\)"):
        go(house, 1, deadline_seconds=0.5)
    assert live(house) == {}


@pytest.mark.parametrize("seats", [None, (), ("gone",)])
def test_a_release_of_which_nobody_who_lives_holds_a_shard_is_refused_by_the_shards_name(house, serve, seats):
    serve("a", **seated("a"))
    if seats is not None:
        assign(house, *seats)
    house.release()
    with pytest.raises(PromotionRefusedError, match=r"no living worker of the pool 'default' holds shards 0 \(of 1\)"):
        go(house, 1, deadline_seconds=0.5)
    assert live(house) == {}


def test_a_seat_that_is_coming_counts_as_soon_as_it_has_taken_up_the_assignment(house, serve):
    serve("a", **seated("a"))
    house.membership.join(worker("b", **seated("b", pool="gpu")))
    assign(house, "b", moves=Move(("b",), ()), pool="gpu")
    assign(house, "a", "gone", moves=Move(("a",), ("gone",)))
    house.release()
    assert go(house, 1).kind == "promote"
    assert house.membership.prepared("@assignment/default", 1) == {"a"}


def test_beside_a_worker_that_holds_everything_no_shard_needs_a_seat(house, serve):
    serve("a", **seated("a"))
    serve("whole")
    house.release()
    assert go(house, 1).kind == "promote"
    assert house.membership.prepared("oj", 1) == {"a", "whole"}


def test_a_shard_is_unserved_unless_a_living_seat_has_it():
    seats = GroupSeats({4: (("a", "b"), ("b", "c"), ("c",), ())}, {4: {1: Move(("c",), ("b",)), 2: Move(("c",), ())}})
    assert unserved(seats, 4, {"a", "b", "c"}, ()) == [2, 3]
    assert unserved(seats, 4, {"a", "b", "c"}, {"c"}) == [3]
    assert unserved(seats, 4, {"c"}, ()) == [0, 1, 2, 3]
    assert unserved(seats, 2, {"a", "b", "c"}, {"a", "b", "c"}) == [0, 1]
