"""Membership in a real Consul that fails: what was known stays, and all is well again by itself."""

import itertools
import threading
import time

import pytest
from consul import Consul
from requests.exceptions import RequestException

from deploy.local.ports import free_ports
from discovery.consul.membership import ConsulMembership
from discovery.errors import DiscoveryAwayError, DiscoveryError
from discovery.keeper import LeaseKeeper
from discovery.snapshot import Member
from tests.support.consul import agent, cluster
from tests.support.members import states
from tests.support.waiting import until

TTL = 2.0


@pytest.fixture
def consul(tmp_path):
    with agent(tmp_path) as running:
        yield running


@pytest.fixture
def opened(consul):
    """Opens memberships of several processes."""
    all_ = []

    def make():
        all_.append(ConsulMembership(f"{consul.address}/tests", ttl=TTL))
        return all_[-1]

    yield make
    for membership in all_:
        membership.close()


def worker(name):
    return Member(name, f"http://{name}:8080", "alive", ("worker",), {"zone": "z1"})


@pytest.fixture
def kept(opened):
    """Two members that are kept alive, and a reader that sees them."""
    keepers = [LeaseKeeper(opened(), worker(name), ttl=TTL) for name in ("a", "b")]
    for keeper in keepers:
        keeper.start()
    keepers[0]._membership.announce("a", [("g", 3)])
    reader = opened()
    until(lambda: states(reader) == {"a": "alive", "b": "alive"}, 10)
    yield reader
    for keeper in keepers:
        keeper.stop()


def test_a_consul_that_lost_its_data_costs_no_member_and_is_told_everything_anew(consul, kept, opened):
    epoch, _ = kept.changes()
    seen = set()

    def noted():
        seen.add(tuple(sorted(states(kept))))
        return kept.changes()[0] != epoch and opened().members() == (worker("a"), worker("b"))

    consul.kill()
    consul.start()
    until(noted, 30, "the members' coming back")
    until(lambda: opened().prepared("g", 3) == {"a"}, 30, "what a member holds")
    until(lambda: states(kept) == {"a": "alive", "b": "alive"}, 30)
    assert seen == {("a", "b")}


def test_while_consul_is_away_the_last_picture_stays_and_writes_say_so(consul, kept):
    known, changes = kept.members(), kept.changes()
    consul.kill()
    with pytest.raises(DiscoveryAwayError):
        kept.join(worker("c"))
    with pytest.raises(DiscoveryAwayError):
        kept.prepared("g", 3)
    with pytest.raises(DiscoveryAwayError):
        kept.bump()
    until(lambda: all(watch.failures > 2 for watch in kept._watches), 30, "failures of both watches")
    assert kept.members() is known
    assert kept.changes() == changes
    consul.start()
    until(lambda: states(kept) == {"a": "alive", "b": "alive"}, 30)
    kept.join(worker("c"))
    until(lambda: states(kept).get("c") == "alive", 30)


def test_a_consul_that_hangs_is_waited_for_no_longer_than_a_call_may_take(consul, kept):
    consul.freeze()
    try:
        with pytest.raises(DiscoveryAwayError):
            kept.join(worker("c"))
        assert set(states(kept)) == {"a", "b"}
    finally:
        consul.thaw()
    until(lambda: states(kept) == {"a": "alive", "b": "alive"}, 30)


def test_a_member_whose_agent_forgot_it_is_never_missed(consul, kept):
    consul.client.agent.service.deregister("tests:a")
    seen = []
    until(
        lambda: (
            seen.append(states(kept))
            or {one["ID"] for one in consul.client.agent.services().values()} >= {"tests:a", "tests:b"}
        ),
        30,
        "a new registration",
    )
    assert all(set(one) == {"a", "b"} for one in seen)


def test_a_consul_without_a_leader_costs_no_renewal_and_takes_what_was_to_be_said_when_it_has_one(tmp_path):
    with cluster(tmp_path) as servers:
        until(servers.is_whole, 60, "a whole Consul")
        counted = itertools.count()
        membership = ConsulMembership(f"{servers.agent.address}/tests", ttl=TTL)
        keeper = LeaseKeeper(membership, worker("a"), ttl=TTL, stats=lambda: {"n": next(counted)})
        keeper.start()
        until(membership.stats, 30, "what it says")
        for server in servers.servers[:2]:
            server.kill()
        until(lambda: not servers.writes(), 30, "a Consul without a leader")
        before, ending = next(counted), time.monotonic() + 3 * TTL
        while time.monotonic() < ending:
            assert {check["Status"] for check in servers.agent.client.agent.checks().values()} == {"passing"}
        servers.servers[0].start()
        until(lambda: servers.writes() and membership.stats()["a"]["n"] > before, 30, "what it says now")
        assert keeper.failures == 0
        keeper.stop()
        membership.close()


def test_an_answer_that_is_older_than_the_last_one_shows_nobody_gone(consul, kept, opened):
    reader = opened()
    index, entries = reader._calls.members(None, "1s")
    reader._take_count(reader._read_count()[1])
    reader._take_members((int(index), entries))
    consul.client.kv.delete("tests/members/b")  # as if it had left, or had not joined yet when this was true
    reader._take_members((int(index) - 1, [entry for entry in entries if entry["Service"]["ID"] != "b"]))
    assert [member.id for member in reader._picture.members] == ["a", "b"]


def test_keys_of_the_long_gone_are_swept_by_whoever_renews(consul, opened):
    clock = [0.0]
    membership = ConsulMembership(f"{consul.address}/tests", ttl=TTL, clock=lambda: clock[0])
    consul.client.kv.put("tests/members/gone", "[]")
    consul.client.kv.put("tests/stats/gone", "{}")
    membership.join(worker("a"))
    membership.members()
    for _ in range(3):
        clock[0] += 61
        membership.renew("a", state="alive", stats={"at": clock[0]})
        until(lambda: membership.stats().get("a") == {"at": clock[0]}, 10, "what it says")
    until(lambda: consul.client.kv.get("tests/stats/gone")[1] is None, 10, "the sweep")
    assert consul.client.kv.get("tests/members/", keys=True)[1] == ["tests/members/a"]
    membership.close()


def test_houses_of_one_consul_see_nothing_of_each_other(consul, kept):
    other = ConsulMembership(f"{consul.address}/other", ttl=TTL)
    assert other.members() == ()
    assert other.prepared("g", 3) == frozenset()
    assert other.stats() == {}
    other.close()


def test_a_consul_that_is_not_there_is_said_at_the_first_call():
    membership = ConsulMembership(f"consul://127.0.0.1:{free_ports(1)[0]}/tests")
    with pytest.raises(DiscoveryAwayError, match="does not answer"):
        membership.members()
    with pytest.raises(DiscoveryAwayError):
        membership.join(worker("a"))


def test_a_first_question_that_fails_leaves_no_thread_behind(consul, monkeypatch):
    membership = ConsulMembership(f"{consul.address}/tests", ttl=TTL)
    nobody = Consul("127.0.0.1", free_ports(1)[0])
    monkeypatch.setattr(membership, "_ask_members", lambda _index, _wait: nobody.status.leader())
    with pytest.raises(RequestException):
        membership.members()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("watch-")], 30, "their end")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8500",
        "consul://u:p@127.0.0.1",
        "consul://127.0.0.1:99999",
        "consul://x/a/b",
        "consul://x/a?b=c",
    ],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(DiscoveryError, match=r"consul://|house"):
        ConsulMembership(url)
