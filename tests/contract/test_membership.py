"""One suite over every Membership: what the rest of the house relies on, whoever keeps the leases."""

import threading

import pytest

from discovery.errors import DiscoveryError
from discovery.keeper import LeaseKeeper
from discovery.leases import SqlMembership, migrate_leases
from discovery.snapshot import Member
from registry.database import sqlite_url
from tests.support.clocks import ManualClock

TTL = 3.0


class SqlHouse:
    """Memberships of several processes over one lease file."""

    def __init__(self, folder):
        self.url = sqlite_url(folder / "leases.db")
        self.clock = ManualClock()
        self.opened = []
        migrate_leases(self.url)

    def membership(self):
        self.opened.append(SqlMembership(self.url, clock=self.clock, ttl=TTL))
        return self.opened[-1]

    def close(self):
        for membership in self.opened:
            membership.close()


@pytest.fixture(params=[SqlHouse])
def house(request, tmp_path):
    house = request.param(tmp_path)
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


def states(membership):
    return {member.id: member.state for member in membership.members()}


def watch(house, reader, seconds, renewing=()):
    """Look every tenth of a second, as a watcher does, while some members go on renewing."""
    for _ in range(round(seconds * 10)):
        house.clock.sleep(0.1)
        for membership, name in renewing:
            membership.renew(name, state="alive", stats={})
        reader.members()


def test_whoever_joins_is_seen_by_all(house):
    house.membership().join(worker("a"))
    assert house.membership().members() == (worker("a"),)


def test_members_come_in_order_of_id_and_as_the_same_object_while_nothing_changes(house):
    membership = house.membership()
    for name in ("b", "c", "a"):
        membership.join(worker(name))
    first = membership.members()
    membership.renew("a", state="alive", stats={})
    assert [member.id for member in first] == ["a", "b", "c"]
    assert membership.members() is first


def test_a_member_that_stops_renewing_becomes_suspect_then_dead_and_others_live_on(house):
    writer, reader = house.membership(), house.membership()
    writer.join(worker("a"))
    writer.join(worker("b"))
    reader.members()
    watch(house, reader, 1.6, [(writer, "b")])
    assert states(reader) == {"a": "suspect", "b": "alive"}
    watch(house, reader, 1.5, [(writer, "b")])
    assert states(reader) == {"a": "dead", "b": "alive"}
    writer.renew("a", state="alive", stats={})
    assert states(reader) == {"a": "alive", "b": "alive"}


def test_a_fresh_reader_gives_every_member_one_ttl(house):
    writer, old = house.membership(), house.membership()
    writer.join(worker("a"))
    old.members()
    watch(house, old, 4)
    fresh = house.membership()
    assert states(old) == {"a": "dead"}
    assert states(fresh) == {"a": "alive"}
    watch(house, fresh, 3.1)
    assert states(fresh) == {"a": "dead"}


def test_a_member_says_itself_that_it_drains_until_it_is_dead(house):
    membership = house.membership()
    membership.join(worker("a"))
    membership.members()
    membership.renew("a", state="draining", stats={})
    assert states(membership) == {"a": "draining"}
    watch(house, membership, 1.6)
    assert states(membership) == {"a": "draining"}
    watch(house, membership, 1.6)
    assert states(membership) == {"a": "dead"}


def test_whoever_leaves_is_gone_and_holds_nothing(house):
    membership = house.membership()
    membership.join(worker("a"))
    membership.announce("a", [("g", 1)])
    membership.leave("a")
    membership.leave("a")
    assert membership.members() == ()
    assert membership.prepared("g", 1) == frozenset()


def test_stats_are_what_was_last_said(house):
    membership = house.membership()
    membership.join(worker("a"))
    membership.renew("a", state="alive", stats={"models": 3, "cache": {"bytes": 10}})
    assert house.membership().stats() == {"a": {"models": 3, "cache": {"bytes": 10}}}


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
    assert membership.members() == (worker("a", uri="http://elsewhere"),)
    assert membership.prepared("g", 1) == {"a"}


def test_the_count_of_changes_grows_with_every_join_leave_and_change_of_state_and_with_nothing_else(house):
    membership, reader = house.membership(), house.membership()
    counts = [reader.changes()[1]]

    def count():
        counts.append(reader.changes()[1])
        return counts[-1] - counts[-2]

    membership.join(worker("a"))
    assert count() == 1
    membership.renew("a", state="alive", stats={})
    membership.announce("a", [("g", 1)])
    assert count() == 0
    membership.renew("a", state="draining", stats={})
    assert count() == 1
    membership.renew("a", state="draining", stats={"x": 1})
    assert count() == 0
    membership.leave("a")
    assert count() == 1
    membership.leave("a")
    assert count() == 0


def test_a_bump_is_seen_by_all_and_keeps_the_epoch(house):
    membership, reader = house.membership(), house.membership()
    epoch, before = reader.changes()
    assert membership.bump(3) == before + 3
    assert reader.changes() == (epoch, before + 3)


def test_purge_drops_all_members_and_counts_as_a_change(house):
    membership, reader = house.membership(), house.membership()
    membership.join(worker("a"))
    membership.announce("a", [("g", 1)])
    epoch, before = reader.changes()
    membership.purge()
    assert reader.members() == ()
    assert reader.prepared("g", 1) == frozenset()
    assert reader.changes()[0] == epoch
    assert reader.changes()[1] > before


def test_a_lease_that_was_dropped_is_taken_up_again_with_all_it_held(house):
    membership, parent = house.membership(), house.membership()
    membership.join(worker("a"))
    membership.announce("a", [("g", 1)])
    parent.purge()
    membership.renew("a", state="alive", stats={})
    assert parent.members() == (worker("a"),)
    assert parent.prepared("g", 1) == {"a"}


def test_leases_silent_for_minutes_are_swept_by_whoever_renews(house):
    writer, other = house.membership(), house.membership()
    other.join(worker("gone"))
    writer.join(worker("a"))
    writer.members()
    watch(house, writer, 62, [(writer, "a")])
    assert states(house.membership()) == {"a": "alive"}


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
    assert states(reader) == {"a": "alive"}
    keeper.drain()
    assert states(reader) == {"a": "draining"}
    keeper.stop()
    keeper.stop()
    assert reader.members() == ()
    assert keeper.failures == 0


def test_a_keeper_goes_on_when_its_stats_fail(house):
    membership = house.membership()

    def stats():
        raise ValueError("no stats today")

    keeper = LeaseKeeper(membership, worker("a"), stats=stats)
    membership.join(worker("a"))
    assert keeper.renew_once()
    assert membership.stats() == {"a": {}}


def test_a_keeper_counts_a_renewal_that_fails_and_makes_it_up(house):
    membership = house.membership()
    keeper = LeaseKeeper(membership, worker("a"))
    assert not keeper.renew_once()
    assert keeper.failures == 1
    membership.join(worker("a"))
    assert keeper.renew_once()
