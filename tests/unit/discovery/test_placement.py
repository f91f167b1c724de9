from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.placement import place, score
from discovery.snapshot import Member

SHARDS = range(256)


def worker(name, state="alive", services=("worker",)):
    return Member(name, f"http://{name}", state, services, {})


def owners(names, group="oj-sales"):
    members = [worker(name) for name in names]
    return {shard: place(members, group, shard).members[0].id for shard in SHARDS}


names = st.sets(st.text("abcdefghijklmnop0123456789.-", min_size=1, max_size=20), min_size=2, max_size=12)


@settings(max_examples=30, deadline=None)
@given(names, st.data())
def test_a_member_that_goes_moves_only_its_own_shards(members, data):
    gone = data.draw(st.sampled_from(sorted(members)))
    before, after = owners(members), owners(members - {gone})
    assert all(after[shard] == owner for shard, owner in before.items() if owner != gone)


@settings(max_examples=30, deadline=None)
@given(names)
def test_a_member_that_comes_takes_shards_to_itself_only(members):
    before, after = owners(members), owners(members | {"newcomer_"})
    moved = {shard for shard in SHARDS if before[shard] != after[shard]}
    assert all(after[shard] == "newcomer_" for shard in moved)


def test_a_newcomer_takes_about_its_share():
    names = [f"worker-{number}" for number in range(9)]
    members = [worker(name) for name in names]
    moved = sum(
        place([*members, worker("worker-9")], group, shard).members[0].id == "worker-9"
        for group in ("a", "b", "c", "d")
        for shard in range(1024)
    )
    assert 0.08 < moved / 4096 < 0.12


def test_shards_spread_evenly():
    members = [worker(f"worker-{number}") for number in range(8)]
    counts = Counter(place(members, "oj-sales", shard).members[0].id for shard in range(4096))
    assert len(counts) == 8
    assert max(counts.values()) < 1.2 * 512
    assert min(counts.values()) > 0.8 * 512


@settings(max_examples=20, deadline=None)
@given(names, st.randoms())
def test_the_order_of_the_members_does_not_matter(members, random):
    listed = [worker(name) for name in members]
    shuffled = list(listed)
    random.shuffle(shuffled)
    assert place(listed, "g", 3) == place(shuffled, "g", 3)


def test_the_score_is_the_same_in_every_version():  # as `b2sum -l 64` says
    assert score("worker-1", "oj-sales", 7) == 5218916731755612104


def test_living_members_come_first_and_each_says_why():
    members = [
        worker("a", "dead"),
        worker("b", "draining"),
        worker("c", "suspect"),
        worker("d", "alive"),
        worker("e", "alive", ("builder",)),
    ]
    placement = place(members, "g", 0)
    assert [member.id for member in placement.members] == ["d", "c", "b"]
    reasons = {candidate.member.id: candidate.why for candidate in placement.candidates}
    assert reasons["a"].reason == "dead"
    assert reasons["e"].reason == "not a worker"
    assert not reasons["a"].eligible
    assert reasons["d"].eligible
    assert len(placement.candidates) == 5


def test_no_member_is_no_member():
    assert place([], "g", 0).members == ()
