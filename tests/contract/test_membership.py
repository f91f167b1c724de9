"""One suite over every Membership: what the rest of the house relies on, whoever keeps the leases."""

import secrets
import threading
import time
from contextlib import closing

import pytest

from discovery.consul.membership import ConsulMembership
from discovery.errors import DiscoveryAwayError, DiscoveryError
from discovery.keeper import LeaseKeeper
from discovery.leases import SqlMembership, migrate_leases
from discovery.snapshot import Member
from registry.database import sqlite_url
from tests.support.clocks import ManualClock
from tests.support.consul import agent
from tests.support.members import states, watch
from tests.support.waiting import until

TTL = 3.0  # where a lease shall lapse
PATIENT = 60.0


class SqlHouse:
    """Memberships of several processes over one lease file."""

    def __init__(self, folder, _request):
        self.url = sqlite_url(folder / "leases.db")
        self.clock = ManualClock()
        self.opened = []
        migrate_leases(self.url)

    def membership(self, ttl=PATIENT):
        self.opened.append(SqlMembership(self.url, clock=self.clock, ttl=ttl))
        return self.opened[-1]

    def pass_time(self, seconds):
        self.clock.sleep(seconds)

    def lose(self, _name):
        """What a process that was stopped for minutes finds: its lease is gone."""
        with closing(SqlMembership(self.url)) as parent:
            parent.purge()

    def close(self):
        for membership in self.opened:
            membership.close()


class PostgresHouse(SqlHouse):
    """The same in a PostgreSQL database."""

    def __init__(self, _folder, request):
        self.url = request.getfixturevalue("postgres_server").create()
        self.clock = ManualClock()
        self.opened = []
        migrate_leases(self.url)


class ConsulHouse:
    """Memberships of several processes over one real agent. Its checks lapse in real time."""

    def __init__(self, _folder, request):
        self.agent = request.getfixturevalue("consul")
        self.url = f"{self.agent.address}/house-{secrets.token_hex(4)}"
        self.opened = []

    def membership(self, ttl=PATIENT):
        self.opened.append(ConsulMembership(self.url, ttl=ttl))
        return self.opened[-1]

    def pass_time(self, seconds):
        time.sleep(seconds)

    def lose(self, name):
        house = self.url.rpartition("/")[2]
        self.agent.client.agent.service.deregister(f"{house}:{name}")
        self.agent.client.kv.delete(f"{house}/members/{name}")

    def close(self):
        for membership in self.opened:
            membership.close()


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with agent(tmp_path_factory.mktemp("consul")) as running:
        yield running


@pytest.fixture(params=[SqlHouse, PostgresHouse, ConsulHouse])
def house(request, tmp_path):
    house = request.param(tmp_path, request)
    yield house
    house.close()


def worker(name, **changes):
    return Member(
        **{
            "id": name,
            "uri": f"http://{name}",
            "state": "alive",
            "services": ("gateway", "worker"),
            "metadata": {"pid": "7"},
        }
        | changes
    )


def sees(reader, expected):
    """Wait until a reader sees these states by id; nobody promises that others see a change at once."""
    until(lambda: states(reader) == expected, 10, str(expected))


def test_whoever_joins_is_seen_by_all(house):
    house.membership().join(worker("a"))
    reader = house.membership()
    until(lambda: reader.members() == (worker("a"),), 10)


def test_members_come_in_order_of_id_and_as_the_same_object_while_nothing_changes(house):
    membership = house.membership()
    for name in ("b", "c", "a"):
        membership.join(worker(name))
    sees(membership, {"a": "alive", "b": "alive", "c": "alive"})
    first = membership.members()
    membership.renew("a", state="alive", stats={})
    assert [member.id for member in first] == ["a", "b", "c"]
    assert membership.members() is first


def test_a_member_that_stops_renewing_becomes_suspect_then_dead_and_others_live_on(house):
    writer, reader = house.membership(TTL), house.membership(TTL)
    writer.join(worker("a"))
    writer.join(worker("b"))
    sees(reader, {"a": "alive", "b": "alive"})
    watch(house.pass_time, reader, 1.6, [(writer, "b")])
    sees(reader, {"a": "suspect", "b": "alive"})
    watch(house.pass_time, reader, 1.6, [(writer, "b")])
    sees(reader, {"a": "dead", "b": "alive"})
    writer.renew("a", state="alive", stats={})
    writer.renew("b", state="alive", stats={})
    sees(reader, {"a": "alive", "b": "alive"})


def test_a_member_says_itself_that_it_drains_until_it_is_dead(house):
    membership = house.membership(TTL)
    membership.join(worker("a"))
    sees(membership, {"a": "alive"})
    membership.renew("a", state="draining", stats={})
    sees(membership, {"a": "draining"})
    watch(house.pass_time, membership, 1.6)
    sees(membership, {"a": "draining"})
    watch(house.pass_time, membership, 1.6)
    sees(membership, {"a": "dead"})


def test_whoever_leaves_is_gone_and_holds_nothing(house):
    membership = house.membership()
    membership.join(worker("a"))
    membership.announce("a", [("g", 1)])
    sees(membership, {"a": "alive"})
    membership.leave("a")
    membership.leave("a")
    sees(membership, {})
    assert membership.prepared("g", 1) == frozenset()


def test_stats_are_what_was_last_said(house):
    membership = house.membership()
    membership.join(worker("a"))
    membership.renew("a", state="alive", stats={"models": 3, "cache": {"bytes": 10}})
    reader, expected = house.membership(), {"a": {"models": 3, "cache": {"bytes": 10}}}
    until(lambda: reader.stats() == expected, 10, "the stats")


def test_an_announcement_is_the_complete_set(house):
    membership, reader = house.membership(), house.membership()
    membership.join(worker("a"))
    membership.join(worker("b"))
    membership.announce("a", [("g", 1), ("g", 2), ("h", 1)])
    membership.announce("b", [("g", 2)])
    assert reader.prepared("g", 1) == {"a"}
    assert reader.prepared("g", 2) == {"a", "b"}
    membership.announce("a", [("h", 1)])
    assert reader.prepared("g", 1) == frozenset()
    assert reader.prepared("g", 2) == {"b"}
    assert reader.prepared("h", 1) == {"a"}


def test_joining_again_replaces_all_but_what_is_held(house):
    membership = house.membership()
    membership.join(worker("a"))
    membership.announce("a", [("g", 1)])
    membership.join(worker("a", uri="http://elsewhere"))
    until(lambda: membership.members() == (worker("a", uri="http://elsewhere"),), 10)
    assert membership.prepared("g", 1) == {"a"}


def test_the_count_of_changes_grows_with_every_join_leave_and_change_of_state_and_with_nothing_else(house):
    membership, reader = house.membership(), house.membership()

    def grown(expected):
        """How far the count grew until the reader saw this, and all that was said before it."""
        before = count[0]
        sees(reader, expected)
        until(lambda: reader.changes()[1] >= membership.changes()[1], 10)
        count[0] = reader.changes()[1]
        return count[0] - before

    count = [reader.changes()[1]]
    membership.join(worker("a"))
    assert grown({"a": "alive"}) > 0
    membership.renew("a", state="alive", stats={})
    membership.announce("a", [("g", 1)])
    house.pass_time(0.1)
    assert grown({"a": "alive"}) == 0
    membership.renew("a", state="draining", stats={})
    assert grown({"a": "draining"}) > 0
    membership.renew("a", state="draining", stats={"x": 1})
    house.pass_time(0.1)
    assert grown({"a": "draining"}) == 0
    membership.leave("a")
    assert grown({}) > 0
    membership.leave("a")
    house.pass_time(0.1)
    assert grown({}) == 0


def test_a_bump_is_seen_by_all_and_keeps_the_epoch(house):
    membership, reader = house.membership(), house.membership()
    epoch, before = reader.changes()
    assert membership.bump(3) == before + 3
    assert membership.changes() == (epoch, before + 3)
    until(lambda: reader.changes() == (epoch, before + 3), 10)


def test_a_lease_that_was_lost_is_taken_up_again_with_all_it_held(house):
    membership, reader = house.membership(), house.membership()
    membership.join(worker("a"))
    membership.announce("a", [("g", 1)])
    sees(reader, {"a": "alive"})
    house.lose("a")
    membership.renew("a", state="alive", stats={})
    until(lambda: reader.members() == (worker("a"),), 10)
    until(lambda: reader.prepared("g", 1) == {"a"}, 10, "what it holds")


def test_only_a_member_of_this_process_can_be_renewed(house):
    house.membership().join(worker("a"))
    with pytest.raises(DiscoveryError, match="never joined"):
        house.membership().renew("a", state="alive", stats={})


@pytest.mark.parametrize("name", ["", "a\nb", "a/b", "x" * 129])
def test_an_id_that_could_be_mistaken_is_refused(house, name):
    with pytest.raises(DiscoveryError):
        house.membership().join(worker(name))


def test_renewals_and_looks_of_many_threads_never_fail(house):
    membership, failures = house.membership(), []

    def work(name):
        try:
            membership.join(worker(name))
            for number in range(30):
                membership.renew(name, state="alive", stats={"n": number})
                membership.announce(name, [("g", number)])
                membership.members()
        except Exception as error:  # noqa: BLE001 - any failure at all fails the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert membership.prepared("g", 29) == {"w0", "w1", "w2", "w3"}


def test_a_keeper_joins_renews_drains_and_leaves(house):
    membership, reader = house.membership(), house.membership()
    renewed = threading.Event()

    def stats():
        renewed.set()
        return {"models": 1}

    keeper = LeaseKeeper(membership, worker("a"), ttl=0.03, stats=stats)
    keeper.start()
    assert renewed.wait(10)
    sees(reader, {"a": "alive"})
    keeper.drain()
    sees(reader, {"a": "draining"})
    keeper.stop()
    keeper.stop()
    sees(reader, {})
    assert keeper.failures == 0


def test_a_keeper_goes_on_when_its_stats_fail(house):
    membership = house.membership()

    def stats():
        raise ValueError("no stats today")

    keeper = LeaseKeeper(membership, worker("a"), stats=stats)
    assert keeper.renew_once()  # it joins
    assert keeper.renew_once()
    until(lambda: membership.stats() == {"a": {}}, 10, "empty stats")


def test_a_keeper_counts_a_renewal_that_fails_and_makes_it_up(house, monkeypatch):
    membership, away = house.membership(), [True]
    keeper = LeaseKeeper(membership, worker("a"))
    renew = membership.renew

    def renewed(*arguments, **named):
        if away[0]:
            raise DiscoveryAwayError("away")
        renew(*arguments, **named)

    monkeypatch.setattr(membership, "renew", renewed)
    assert keeper.renew_once()
    assert not keeper.renew_once()
    assert keeper.failures == 1
    away[0] = False
    assert keeper.renew_once()
    sees(membership, {"a": "alive"})


def test_a_keeper_that_could_not_join_joins_when_it_can(house, monkeypatch):
    membership, away, tried = house.membership(), [True], threading.Event()
    join = membership.join

    def joined(member):
        if away[0]:
            tried.set()
            raise DiscoveryAwayError("away")
        join(member)

    monkeypatch.setattr(membership, "join", joined)
    keeper = LeaseKeeper(membership, worker("a"), ttl=0.03)
    keeper.start()
    assert tried.wait(10)
    away[0] = False
    sees(membership, {"a": "alive"})
    keeper.stop()
    sees(membership, {})
