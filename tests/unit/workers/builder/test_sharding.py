"""The count of shards follows the fleet's size, and changes only when it must."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.keys import SLOTS, shard_of
from workers.builder.sharding import MEGABYTE, SizeEstimate, choose_shards, shards_over, slots_of

sizes = st.integers(0, 1 << 42)
powers = st.sampled_from([2**n for n in range(13)])


def exactly(size: int) -> SizeEstimate:
    return SizeEstimate(size, size)


@pytest.mark.parametrize(
    ("megabytes", "shards"),
    [(0, 1), (1, 1), (16, 1), (17, 2), (200, 16), (1700, 128), (16 * 4096, 4096), (10**6, 4096)],
)
def test_a_first_release_gets_segments_of_at_most_16_mb(megabytes: int, shards: int) -> None:
    assert choose_shards(exactly(megabytes * MEGABYTE), None) == shards


@pytest.mark.parametrize(
    ("megabytes", "current", "shards"),
    [
        (200, 16, 16),
        (64, 16, 16),  # 4 MB each: just kept
        (63, 16, 4),
        (512, 16, 16),  # 32 MB each: just kept
        (513, 16, 64),
        (0, 1, 1),
        (33, 1, 4),
        (10**7, 4096, 4096),
    ],
)
def test_a_count_stays_until_segments_leave_4_to_32_mb(megabytes: int, current: int, shards: int) -> None:
    assert choose_shards(exactly(megabytes * MEGABYTE), current) == shards


def test_a_nightly_retrain_of_every_model_keeps_the_count() -> None:
    fleet = 30 * 16 * MEGABYTE
    assert choose_shards(SizeEstimate.of(fleet, fleet), 16) == 16


def test_a_fleet_that_grows_from_one_model_is_cut() -> None:
    assert choose_shards(SizeEstimate.of(20_000, 200 * MEGABYTE), 1) == 16


@given(size=sizes, current=st.none() | powers)
def test_a_count_is_a_power_of_two_up_to_the_slots(size: int, current: int | None) -> None:
    shards = choose_shards(exactly(size), current)
    assert 1 <= shards <= SLOTS
    assert shards & (shards - 1) == 0


@given(size=sizes, current=st.none() | powers)
def test_a_chosen_count_is_kept_by_the_next_release(size: int, current: int | None) -> None:
    shards = choose_shards(exactly(size), current)
    assert choose_shards(exactly(size), shards) == shards


@given(shards=st.integers(1, SLOTS))
def test_the_slots_of_all_shards_are_all_slots_once(shards: int) -> None:
    bounds = [slots_of(shard, shards) for shard in range(shards)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == SLOTS
    assert all(one[1] == following[0] for one, following in pairwise(bounds))
    assert all(shard_of(low, shards) == shard == shard_of(high - 1, shards) for shard, (low, high) in enumerate(bounds))


@given(shards=powers, others=powers, data=st.data())
def test_shards_over_a_run_of_slots_hold_exactly_those_slots(shards: int, others: int, data: st.DataObject) -> None:
    low, high = slots_of(data.draw(st.integers(0, shards - 1)), shards)
    found = shards_over(low, high, others)
    assert {shard_of(slot, others) for slot in range(low, high)} == set(found)
