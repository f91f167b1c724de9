from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.placement import Held, place, score, serving
from discovery.seats import Move
from discovery.snapshot import Member
from tests.support.snapshots import group, live, snapshot

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


def sitting(seat, state="alive", process="1", **said):
    metadata = {"assigned": "yes", "seat": seat, "zone": f"z-{seat}", **said}
    return Member(f"{seat}-{process}", f"http://{seat}", state, ("worker",), metadata)


def standing(members, held):
    candidates = place(members, "g", 0, held).candidates
    return [(found.member.id, found.why.rank, found.why.reason) for found in candidates]


def test_a_shard_is_served_by_its_seats_in_their_order_and_by_nobody_else():
    members = [sitting(name) for name in "abcd"]
    assert standing(members, Held(("c", "a"))) == [
        ("c-1", 1, "holds it"),
        ("a-1", 2, "holds it"),
        *sorted(
            [("b-1", None, "not assigned"), ("d-1", None, "not assigned")],
            key=lambda found: -score(found[0], "g", 0),
        ),
    ]
    why = place(members, "g", 0, Held(("c", "a"))).candidates[0].why
    assert (why.seat, why.zone, why.eligible) == ("c", "z-c", True)


def test_all_processes_of_a_seat_serve_and_those_that_live_come_first():
    members = [sitting("a", process="1"), sitting("a", "suspect", "2"), sitting("b"), sitting("b", "draining", "2")]
    assert [rest for _, *rest in standing(members, Held(("a", "b")))] == [
        [1, "holds it"],
        [2, "holds it"],
        [3, "holds it; suspect: after those alive"],
        [4, "holds it; draining: only when no other is left"],
    ]


def test_who_is_coming_is_not_asked_while_somebody_has_the_shard_and_who_goes_serves_until_then():
    members = [sitting("new"), sitting("old", "draining"), sitting("stays", "suspect")]
    held = Held(("stays", "old", "new"), Move(("new",), ("old",)))
    assert standing(members, held) == [
        ("stays-1", 1, "holds it; suspect: after those alive"),
        ("old-1", 2, "former, until the new have it; draining: only when no other is left"),
        ("new-1", None, "coming, not yet ready"),
    ]
    assert standing(members[:1], held) == [("new-1", 1, "coming, not yet ready")]


def test_a_dead_member_is_never_asked_and_says_so():
    assert standing([sitting("a", "dead"), sitting("b")], Held(("a", "b"))) == [
        ("b-1", 1, "holds it"),
        ("a-1", None, "dead"),
    ]


def test_a_worker_without_a_seat_holds_everything_and_is_asked_after_the_seats():
    assert standing([worker("whole"), sitting("a")], Held(("a",))) == [
        ("a-1", 1, "holds it"),
        ("whole", 2, "holds everything"),
    ]


def test_the_seats_are_those_of_the_releases_own_count_of_shards():
    members = (sitting("a"), sitting("b"), sitting("c"))
    release = live(1, shards=2)
    view = replace(group("oj", 1), seats={2: (("a",), ("b",)), 4: (("c",),) * 4})
    shown = snapshot(view, members=members)
    assert [member.id for member in serving(shown, view, release, 1)] == ["b-1"]
    assert [member.id for member in serving(shown, view, live(2, shards=4), 1)] == ["c-1"]
    assert serving(shown, view, live(3, shards=8), 1) == ()  # nobody has been told yet


def test_without_seats_all_workers_serve():
    view = group("oj", 1)
    shown = snapshot(view, members=(worker("a"), worker("b")))
    assert {member.id for member in serving(shown, view, live(1), 0)} == {"a", "b"}
