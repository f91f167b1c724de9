"""Leases in SQL: each reader judges for itself who lives."""

import pytest

from discovery.leases import SqlMembership, migrate_leases
from registry.database import sqlite_url
from tests.support.clocks import ManualClock
from tests.support.houses import worker
from tests.support.members import states, watch

TTL = 3.0


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def membership(tmp_path, clock):
    """Opens memberships of several processes over one lease file."""
    url, opened = sqlite_url(tmp_path / "leases.db"), []
    migrate_leases(url)

    def made():
        opened.append(SqlMembership(url, clock=clock, ttl=TTL))
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def test_a_fresh_reader_gives_every_member_one_ttl(membership, clock):
    writer, old = membership(), membership()
    writer.join(worker("a"))
    old.members()
    watch(clock.sleep, old, 4)
    fresh = membership()
    assert states(old) == {"a": "dead"}
    assert states(fresh) == {"a": "alive"}
    watch(clock.sleep, fresh, 3.1)
    assert states(fresh) == {"a": "dead"}


def test_purge_drops_all_members_and_counts_as_a_change(membership):
    writer, reader = membership(), membership()
    writer.join(worker("a"))
    writer.announce("a", [("g", 1)])
    epoch, before = reader.changes()
    writer.purge()
    assert reader.members() == ()
    assert reader.prepared("g", 1) == frozenset()
    assert reader.changes()[0] == epoch
    assert reader.changes()[1] > before


def test_leases_silent_for_minutes_are_swept_by_whoever_renews(membership, clock):
    writer, other = membership(), membership()
    other.join(worker("gone"))
    writer.join(worker("a"))
    writer.members()
    watch(clock.sleep, writer, 62, [(writer, "a")])
    assert states(membership()) == {"a": "alive"}
