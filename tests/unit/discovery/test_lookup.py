import pytest

from discovery.errors import NothingLiveError
from discovery.lookup import lookup
from discovery.placement import place
from discovery.snapshot import Member
from registry.errors import GroupNotFoundError
from registry.keys import shard_of
from tests.support.snapshots import group, snapshot

MEMBERS = tuple(Member(f"w{number}", f"http://w{number}", "alive", ("worker",), {}) for number in range(3))


def test_a_key_is_found_with_its_slot_shard_release_and_members():
    picture = snapshot(group("oj", 3), number=17, members=MEMBERS)
    found = lookup(picture, "oj", ("2", "tropicana"))
    assert found.key.text == "store=2/brand=tropicana"
    assert found.slot == picture.groups["oj"].schema.slot(found.key)
    assert found.shard == shard_of(found.slot, 4)
    assert (found.deployment, found.release) == ("blue", 3)
    assert found.members == place(MEMBERS, "oj", found.shard).members
    assert sorted(member.id for member in found.members) == ["w0", "w1", "w2"]
    assert found.revision == picture.revision
    assert found.ttl > 0


def test_an_unknown_group_is_named():
    with pytest.raises(GroupNotFoundError, match="milk"):
        lookup(snapshot(group("oj", 3)), "milk", ("2", "tropicana"))


def test_a_group_without_a_live_release_says_so():
    with pytest.raises(NothingLiveError, match="no live release"):
        lookup(snapshot(group("oj")), "oj", ("2", "tropicana"))


def test_a_house_without_members_has_no_member_to_name():
    assert lookup(snapshot(group("oj", 3)), "oj", ("2", "tropicana")).members == ()
