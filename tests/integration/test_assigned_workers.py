"""Workers that hold shares, over a real registry, real leases and real segments, driven step by step.

A gateway asks, for every key, the members that its picture names, in order, as long as one says that it is not ready.
Whatever step is next and however late the gateway's picture is, a key is answered by its own model or by nobody yet,
never by another model and never by a 404; and where a seat is left that has the shard, it is answered.
"""

from collections import Counter
from contextlib import contextmanager

import pytest

from discovery.assigning import Assigner
from discovery.placement import serving
from discovery.promotion import promote
from discovery.watch import SnapshotWatcher
from gateway.assembly import Assembly
from gateway.roles import SERVE, WORKER_ROLE
from gateway.settings import Settings
from registry.groups import place_group
from registry.keys import shard_of
from registry.releases import begin_release, finish_release
from tests.support import models
from tests.support.held import SHARDS, Shelf
from tests.support.house import running_house
from tests.support.houses import House, worker
from tests.support.views import signature
from tests.support.waiting import until
from workers.errors import ReleaseNotReadyError
from workers.holdings import Holdings

KEYS = [(str(store), "b") for store in range(24)]
NOTHING = frozenset()


class Worker:
    """One process of a seat: a membership, a watcher that is polled by hand, and real holdings."""

    def __init__(self, cluster, seat, process):
        house = cluster.house
        self.id = f"{seat}-{process}"
        self.seat = seat
        self.membership = house.open_membership()
        self.membership.join(
            worker(self.id, uri=f"http://{self.id}", metadata={"assigned": "yes", "seat": seat, "zone": "z"})
        )
        self.holdings = Holdings(cluster.shelf.store, seat=seat, keep_seconds=60, clock=house.clock)
        self.watcher = SnapshotWatcher(
            house.database,
            house.store,
            self.membership,
            self.holdings.adopt,
            member_id=self.id,
            now=house.now,
            clock=house.clock,
        )


class Cluster:
    """A house, its workers by id, an assigner and the picture of a gateway."""

    def __init__(self, root):
        self.house = House(root)
        self.house.group()
        self.shelf = Shelf(root / "unused", signature=signature())
        self.shelf.store = self.house.store
        self.model = models.lightgbm_regressor()
        self.workers = {}
        self.started = 0
        self.gateway, self.assigners_view = self.watcher(), self.watcher()
        self.assigner = self.new_assigner()

    def watcher(self):
        house = self.house
        return SnapshotWatcher(house.database, house.store, house.open_membership(), now=house.now, clock=house.clock)

    def new_assigner(self):
        return Assigner(
            self.house.database,
            self.house.membership,
            self.assigners_view.refresh,
            clock=self.house.clock,
        )

    def join(self, *seats):
        for seat in seats:
            self.started += 1
            started = Worker(self, seat, self.started)
            self.workers[started.id] = started

    def place(self, replicas):
        with self.house.database.write() as connection:
            place_group(connection, "oj", replicas=replicas)

    def kill(self, seat):
        for killed in [one for one in self.workers.values() if one.seat == seat]:
            del self.workers[killed.id]

    def wait(self, seconds):
        """Let time pass, in which those who live renew and everybody looks."""
        for _ in range(round(seconds * 2)):
            self.house.clock.sleep(0.5)
            for living in self.workers.values():
                living.membership.renew(living.id, state="alive", stats={})
                living.membership.members()
            self.house.membership.members()
            self.gateway.refresh()

    def turn(self, *, gateway=True):
        """One turn of everybody, and every key asked after each step of it; answers whether anything was assigned."""
        written = self.assigner.assign_once()
        steps = [living.watcher.refresh for living in self.workers.values()]
        for step in (lambda: None, *steps):
            step()
            self.check()
            if gateway:
                self.gateway.refresh()
                self.check()
        return bool(written)

    def settle(self):
        for _ in range(12):
            if not self.turn():
                return
        raise AssertionError("it never comes to rest")

    def release(self):
        """Build a release of all keys and of a fallback model, and promote it while everybody goes on."""
        with self.house.database.write() as connection:
            begun = begin_release(connection, "oj", base=None, named=None, gates={}, now=self.house.now())
        found = {f"store={store}/brand={brand}": self.model for store, brand in KEYS}
        made = self.shelf.release(begun.number, found | {"": self.model})
        with self.house.database.write() as connection:
            finish_release(
                connection, "oj", begun.number, manifest=made.manifest_digest, models=len(KEYS), size=1, report={},
                blocked=False, now=self.house.now(),
            )  # fmt: skip
        house = self.house
        promote(
            house.database, house.membership, house.store, "oj", begun.number,
            now=house.now, clock=house.clock, sleep=self.rest, deadline_seconds=60,
        )  # fmt: skip
        self.turn()

    def rest(self, _seconds):
        self.house.clock.sleep(0.01)
        self.turn()

    def asked(self, key):
        """Canonical text of the model that answers for a key, or None if nobody is ready."""
        shown = self.gateway.current
        view = shown.groups["oj"]
        live = view.deployments["blue"].release
        shard = shard_of(view.schema.slot(view.schema.key(key)), live.manifest.shards)
        for member in serving(shown, view, live, shard):
            living = self.workers.get(member.id)
            held = living.holdings.get("oj", live.number) if living else None
            if held is None:
                continue  # a connection refused, or a release that is not ready: the next is asked
            try:
                return held.resolve(key, 2, NOTHING).use.key
            except ReleaseNotReadyError:
                continue
        return None

    def check(self):
        """Every key is answered by its own model, or by nobody where `lost` allows it."""
        if self.gateway.current is None or "blue" not in self.gateway.current.groups["oj"].deployments:
            return
        for store, brand in KEYS:
            answer = self.asked((store, brand))
            assert answer == f"store={store}/brand={brand}" or (answer is None and self.may_be_away)

    may_be_away = False

    def held(self):
        """By seat, the shards of the live release that it holds."""
        live = self.gateway.current.groups["oj"].deployments["blue"].release.number
        return {
            living.seat: {shard for shard in living.holdings.get("oj", live).segments if shard >= 0}
            for living in self.workers.values()
        }

    def seats(self):
        return [set(names) for names in self.gateway.refresh().groups["oj"].seats[SHARDS]]


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path / "home")
    cluster.gateway.refresh()
    yield cluster
    cluster.house.close()


def test_each_worker_holds_its_share_and_every_shard_has_its_replicas(cluster):
    cluster.join("a", "b", "c")
    cluster.release()
    cluster.settle()
    counts = Counter(shard for shards in cluster.held().values() for shard in shards)
    assert counts == dict.fromkeys(range(SHARDS), 2)
    assert all(shards != set(range(SHARDS)) for shards in cluster.held().values())


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_seat_that_comes_is_given_shards_while_every_key_is_answered(cluster, replicas):
    cluster.join("a", "b")
    cluster.place(replicas)
    cluster.release()
    cluster.settle()
    cluster.join("c")
    cluster.settle()
    assert sum("c" in names for names in cluster.seats()) >= 1
    assert {len(names) for names in cluster.seats()} == {replicas}
    assert not cluster.gateway.current.groups["oj"].moves


def test_a_gateway_whose_picture_is_late_is_still_answered(cluster):
    cluster.join("a", "b")
    cluster.release()
    cluster.settle()
    cluster.join("c")
    for _ in range(8):
        cluster.turn(gateway=False)
    assert not any("c" in names for names in cluster.gateway.current.groups["oj"].seats[SHARDS])
    cluster.gateway.refresh()
    cluster.check()
    assert any("c" in names for names in cluster.seats())


def test_a_seat_that_dies_costs_no_request_and_is_replaced_after_a_while(cluster):
    cluster.join("a", "b", "c")
    cluster.release()
    cluster.settle()
    before = cluster.seats()
    cluster.kill("b")
    cluster.check()
    cluster.wait(4)
    cluster.settle()
    assert cluster.seats() == before
    cluster.wait(16)
    cluster.settle()
    assert cluster.seats() == [{"a", "c"}] * SHARDS


def test_a_seat_that_is_taken_again_in_time_moves_nothing(cluster):
    cluster.join("a", "b", "c")
    cluster.release()
    cluster.settle()
    before = cluster.gateway.refresh().assignments["default"].number
    cluster.kill("b")
    cluster.wait(6)
    cluster.settle()
    cluster.join("b")
    cluster.settle()
    cluster.wait(20)
    cluster.settle()
    assert cluster.gateway.refresh().assignments["default"].number == before


def test_a_shard_whose_only_seat_dies_is_assigned_anew_at_once_and_meanwhile_answered_by_nobody(cluster):
    cluster.join("a", "b", "c")
    cluster.place(1)
    cluster.release()
    cluster.settle()
    lost = cluster.held()["b"]
    assert lost
    cluster.kill("b")
    cluster.may_be_away = True
    cluster.wait(4)
    cluster.settle()
    cluster.may_be_away = False
    cluster.check()
    assert all("b" not in names for names in cluster.seats())


def test_releases_go_live_while_seats_come_and_go(cluster):
    cluster.join("a", "b", "c")
    for number, seat in enumerate("defgh"):
        cluster.release()
        cluster.join(seat)
        cluster.turn()
        cluster.release()
        if number % 2:
            cluster.kill(seat)
            cluster.wait(20)
    cluster.settle()
    assert cluster.gateway.current.groups["oj"].deployments["blue"].release.number == 10
    assert {len(names) for names in cluster.seats()} == {2}


def test_more_and_fewer_replicas_are_made_before_any_is_broken(cluster):
    cluster.join("a", "b", "c", "d")
    cluster.release()
    for replicas in (3, 1, 4, 2):
        cluster.place(replicas)
        cluster.settle()
        assert {len(names) for names in cluster.seats()} == {replicas}


def test_after_a_start_of_everything_at_once_everybody_holds_what_it_held(cluster):
    cluster.join("a", "b", "c")
    cluster.release()
    cluster.settle()
    before = cluster.gateway.refresh().assignments["default"].number
    for seat in "abc":
        cluster.kill(seat)
    cluster.may_be_away = True
    cluster.wait(4)
    cluster.assigner = cluster.new_assigner()
    for seat in "abc":
        cluster.join(seat)
        cluster.settle()
        cluster.wait(2)
    cluster.may_be_away = False
    cluster.settle()
    assert cluster.gateway.refresh().assignments["default"].number == before


def test_a_process_put_together_as_assigned_says_where_it_sits_and_holds_its_share(tmp_path):
    house = House(tmp_path / "home")
    house.group()
    settings = Settings(seat="here", zone="z1", pool="gpu", weight=2.5, warm_up=False)
    process = Assembly(house.home, settings, WORKER_ROLE, uri="http://127.0.0.1:9")
    whole = Assembly(house.home, Settings(warm_up=False), SERVE, uri="http://127.0.0.1:8")
    process.start()
    whole.start()
    try:
        said = {member.uri: member.metadata for member in house.membership.members()}
    finally:
        process.stop()
        whole.stop()
        house.close()
    assert said["http://127.0.0.1:9"].items() >= {
        ("assigned", "yes"), ("seat", "here"), ("zone", "z1"), ("pool", "gpu"), ("weight", "2.5"),
    }  # fmt: skip
    assert said["http://127.0.0.1:8"]["seat"] == "http://127.0.0.1:8"
    assert "assigned" not in said["http://127.0.0.1:8"]


def test_a_house_of_assigned_workers_takes_models_releases_them_and_survives_the_loss_of_one(tmp_path):
    with cluster_house(tmp_path, "a", "b") as (front, processes, membership):
        group = front.create("oj", replicas=1)
        model = models.lightgbm_regressor(1)
        front.register(group, model, {"store": "2", "brand": "tropicana"})
        front.until_live(group)
        key = {"group": "oj", "store": "2", "brand": "tropicana", "explain": "true"}
        told = {one["seat"]: one["reason"] for one in asked(front, key)["explanation"] if one["seat"]}
        assert sorted(told.values()) in (["holds it", "not assigned"], ["coming, not yet ready", "not assigned"])
        other, holder = sorted(told, key=lambda seat: told[seat] != "not assigned")
        assert processes[holder].context.holdings.get("oj", 1).resolve(("2", "tropicana"), 0, NOTHING)
        with pytest.raises(ReleaseNotReadyError):
            processes[other].context.holdings.get("oj", 1).resolve(("2", "tropicana"), 0, NOTHING)

        processes.pop(holder).stop()
        until(lambda: [one["uri"] for one in asked(front, key)["members"]] == [f"http://{other}"])
        until(lambda: holds(processes[other], ("2", "tropicana")))
        until(lambda: front.client.get("/v1/status").json()["groups"][0]["seated"] == SETTLED)
        assert {member.metadata["seat"] for member in membership.members() if "assigned" in member.metadata} == {other}


SETTLED = {"seats": 1, "moving": 0, "unserved": 0}


def asked(front, key):
    return front.client.get("/v1/discovery/lookup", params=key).json()


def holds(process, values):
    try:
        return process.context.holdings.get("oj", 1).resolve(values, 0, NOTHING)
    except ReleaseNotReadyError:
        return None


@contextmanager
def cluster_house(root, *seats):
    """A front that is no member, a builder, an assigner, and assigned workers by seat: all in their own threads."""
    with running_house(root, member=False) as front:
        context = front.assembly.context
        processes = {
            seat: Assembly(front.home, Settings(seat=seat, warm_up=False), WORKER_ROLE, uri=f"http://{seat}")
            for seat in seats
        }
        for process in processes.values():
            process.start()
        assigner = Assigner(
            context.database, context.membership, lambda: context.watcher.current, interval=0.02, seat_seconds=1.0
        )
        assigner.start()
        try:
            yield front, processes, context.membership
        finally:
            assigner.stop()
            for process in processes.values():
                process.stop()
