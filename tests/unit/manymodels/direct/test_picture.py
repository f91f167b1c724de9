"""A client that asks workers itself asks those that discovery would name, in the same order."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.placement import serving
from discovery.seats import Move
from discovery.snapshot import Member
from gateway.control.shapes import snapshot_json
from manymodels.direct.picture import read_picture
from manymodels.errors import KeyValueError
from registry.keys import KeySchema, key_id, shard_of
from tests.support import snapshots

SEATS = ("a", "b", "c", "d")
STATES = ("alive", "suspect", "draining", "dead")
VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.integers(0, 10**6).map(str)


@st.composite
def members(draw):
    found = []
    for number in range(draw(st.integers(0, 5))):
        said = {"seat": draw(st.sampled_from(SEATS))} | draw(st.sampled_from([{}, {"assigned": "yes"}]))
        services = draw(st.sampled_from([("worker",), ("gateway", "worker"), ("gateway",)]))
        member = Member(f"m-{number}", f"http://m-{number}:1", draw(st.sampled_from(STATES)), services, said)
        found.append(member)
    return tuple(found)


@st.composite
def seated(draw, shards):
    """Seats of each shard, of which some are only coming."""
    seats, moves = [], {}
    for shard in range(shards):
        names = tuple(draw(st.lists(st.sampled_from(SEATS), unique=True, max_size=3)))
        seats.append(names)
        coming = tuple(name for name in names if draw(st.booleans()))
        if coming and draw(st.booleans()):
            moves[shard] = Move(coming, ())
    return {shards: tuple(seats)}, {shards: moves}


@given(data=st.data(), there=members(), values=st.tuples(VALUES, VALUES))
def test_it_names_the_workers_that_discovery_names(data, there, values):
    view = snapshots.group(serving=3)
    schema = KeySchema(("store", "brand"), shard_by=data.draw(st.sampled_from([(), ("brand",), ("store",)])))
    seats, moves = data.draw(st.just(({}, {})) | seated(4))
    view = replace(view, schema=schema, seats=seats, moves=moves)
    shown = snapshots.snapshot(view, members=there)
    identity = key_id(schema.text_at(values, 0))
    shard = shard_of(schema.slot_at(values, identity), 4)
    expected = dict.fromkeys(member.uri for member in serving(shown, view, view.deployments["blue"].release, shard))
    picture = read_picture(snapshot_json(shown))
    assert picture.serving("oj", dict(zip(("store", "brand"), values, strict=True))) == tuple(expected)


@pytest.mark.parametrize(
    ("group", "key"),
    [
        ("none", {"store": 1, "brand": "a"}),
        ("oj", {"store": 1}),
        ("oj", {"store": 1, "brand": "a", "x": 1}),
        ("oj", {}),
    ],
)
def test_what_it_cannot_tell_is_left_to_the_server(group, key):
    there = (Member("m", "http://m:1", "alive", ("worker",), {}),)
    picture = read_picture(snapshot_json(snapshots.snapshot(snapshots.group(serving=3), members=there)))
    assert picture.serving("oj", {"store": 1, "brand": "a"}) == ("http://m:1",)
    assert picture.serving(group, key) == ()


def test_a_group_without_a_live_release_has_no_workers_yet():
    there = (Member("m", "http://m:1", "alive", ("worker",), {}),)
    picture = read_picture(snapshot_json(snapshots.snapshot(snapshots.group(), members=there)))
    assert picture.serving("oj", {"store": 1, "brand": "a"}) == ()


def test_a_value_that_no_key_can_have_is_told():
    there = (Member("m", "http://m:1", "alive", ("worker",), {}),)
    picture = read_picture(snapshot_json(snapshots.snapshot(snapshots.group(serving=3), members=there)))
    with pytest.raises(KeyValueError):
        picture.serving("oj", {"store": 1.5, "brand": "a"})
