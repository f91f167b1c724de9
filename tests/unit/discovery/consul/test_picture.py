"""What is made of Consul's answers, and what of them is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.consul.picture import PATIENCE_SECONDS, Picture, believe, members_of, meta_of
from discovery.errors import DiscoveryError
from discovery.snapshot import Member


def member(name, state="alive", **metadata):
    return Member(name, f"http://{name}:80", state, ("worker",), metadata)


def entry(name, *, said="alive", progress="passing", lease="passing", node="passing", uri=None):
    checks = {f"{name}:progress": progress, f"{name}:lease": lease, "serfHealth": node}
    return {
        "Service": {"ID": name, "Tags": ["worker"], "Meta": {"uri": uri or f"http://{name}:80", "state": said}},
        "Checks": [{"CheckID": check, "Status": status} for check, status in checks.items()],
    }


def names(picture):
    return [one.id for one in picture.members]


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({}, "alive"),
        ({"progress": "critical"}, "suspect"),
        ({"progress": "critical", "lease": "critical"}, "dead"),
        ({"said": "draining"}, "draining"),
        ({"said": "draining", "progress": "critical"}, "draining"),
        ({"said": "draining", "lease": "critical"}, "dead"),
        ({"node": "critical"}, "dead"),
    ],
)
def test_a_member_is_what_its_checks_and_it_itself_say(said, state):
    assert members_of([entry("a", **said)]) == (member("a", state),)


def test_members_come_in_order_of_id():
    assert [one.id for one in members_of([entry("b"), entry("a"), entry("c")])] == ["a", "b", "c"]


@pytest.mark.parametrize("turn", [1, -1])
def test_an_id_under_two_agents_is_taken_where_it_lives(turn):
    both = [entry("a", lease="critical", uri="http://old"), entry("a", uri="http://new")]
    assert [(one.uri, one.state) for one in members_of(both[::turn])] == [("http://new", "alive")]


def test_a_service_without_tags_or_metadata_is_a_member_nobody_asks():
    bare = {"Service": {"ID": "a", "Tags": None, "Meta": None}, "Checks": []}
    assert members_of([bare]) == (Member("a", "", "alive", (), {}),)


def test_metadata_come_back_as_they_were_given():
    given_ = member("a", zone="z1", pool="large")
    assert meta_of(given_) == {"zone": "z1", "pool": "large", "uri": "http://a:80", "state": "alive"}


@pytest.mark.parametrize("metadata", [{"uri": "x"}, {"a b": "x"}, {"é": "x"}, {"zone": "x" * 513}])
def test_metadata_that_consul_would_not_take_are_refused(metadata):
    with pytest.raises(DiscoveryError):
        meta_of(member("a", **metadata))


def test_more_metadata_than_consul_takes_are_refused():
    with pytest.raises(DiscoveryError, match="60"):
        meta_of(member("a", **{f"m{number}": "x" for number in range(61)}))


def test_an_answer_that_changes_nothing_is_the_same_object():
    first = believe(Picture(), (member("a"),), (), 0.0)
    assert believe(first, (member("a"),), (), 1.0).members is first.members


def test_whoever_left_is_gone_even_if_nobody_else_is_there():
    before = believe(Picture(), (member("a"), member("b")), (), 0.0)
    assert names(believe(before, (member("b"),), {"a"}, 1.0)) == ["b"]
    assert names(believe(before, (), {"a", "b"}, 1.0)) == []


def test_the_dead_may_vanish():
    before = believe(Picture(), (member("a", "dead"),), (), 0.0)
    assert names(believe(before, (), (), 1.0)) == []


def test_whoever_vanished_without_leaving_is_waited_for_and_then_given_up():
    picture = believe(Picture(), (member("a"), member("b")), (), 0.0)
    for now in (10.0, 10.0 + PATIENCE_SECONDS - 1):
        picture = believe(picture, (member("b"),), (), now)
        assert names(picture) == ["a", "b"]
    assert names(believe(picture, (member("b"),), (), 10.0 + PATIENCE_SECONDS)) == ["b"]


def test_whoever_comes_back_is_no_longer_missed():
    picture = believe(Picture(), (member("a"), member("b")), (), 0.0)
    picture = believe(picture, (member("b"),), (), 10.0)
    picture = believe(picture, (member("a"), member("b")), (), 15.0)
    assert not picture.missed
    assert names(believe(picture, (member("b"),), (), 15.0 + PATIENCE_SECONDS)) == ["a", "b"]


def test_a_sudden_empty_list_is_never_believed_and_its_end_gives_everyone_time():
    picture = believe(Picture(), (member("a"), member("b")), (), 0.0)
    for now in (1.0, 100.0, 5000.0):
        picture = believe(picture, (), (), now)
        assert names(picture) == ["a", "b"]
    picture = believe(picture, (member("b"),), (), 5001.0)
    assert names(picture) == ["a", "b"]
    assert names(believe(picture, (member("b"),), (), 5000.0 + PATIENCE_SECONDS)) == ["b"]


@given(
    st.lists(st.tuples(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd")), st.floats(0, 30))),
)
def test_whatever_is_seen_is_believed_and_nobody_who_was_never_seen(answers):
    picture, now, ever = Picture(), 0.0, set()
    for seen, left, passed in answers:
        now += passed
        ever |= seen
        picture = believe(picture, tuple(member(name) for name in sorted(seen)), left, now)
        assert seen <= set(names(picture)) <= ever
        assert picture.missed.keys() == set(names(picture)) - seen
        assert names(picture) == sorted(names(picture))
