import numpy as np
import pytest

from registry.errors import PartitionNotFoundError, Problem
from registry.keys import key_id
from tests.support import models
from tests.support.clocks import ManualClock
from tests.support.held import Bench, Shelf
from workers.holdings import Holdings
from workers.warmup import WarmUp

NOTHING = frozenset()


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


@pytest.fixture(scope="module")
def tiny():
    return models.lightgbm_regressor()


def test_a_release_is_held_as_soon_as_it_is_wanted_and_for_a_while_after(shelf, tiny):
    clock = ManualClock()
    holdings = Holdings(shelf.store, keep_seconds=60, clock=clock)
    first, second = shelf.release(1, {"store=1/brand=b": tiny}), shelf.release(2, {"store=1/brand=b": tiny})
    assert holdings.adopt(shelf.snapshot(first)).ready == (("oj", 1),)
    assert holdings.adopt(shelf.snapshot(second, first)).ready == (("oj", 1), ("oj", 2))
    clock.sleep(100)
    assert holdings.adopt(shelf.snapshot(second)).ready == (("oj", 2),)
    assert holdings.get("oj", 1) is not None
    clock.sleep(59)
    holdings.adopt(shelf.snapshot(second))
    assert holdings.get("oj", 1) is not None
    clock.sleep(1)
    holdings.adopt(shelf.snapshot(second))
    assert holdings.get("oj", 1) is None
    assert holdings.get("oj", 2) is not None


def test_a_release_wanted_again_stays(shelf, tiny):
    clock = ManualClock()
    holdings = Holdings(shelf.store, keep_seconds=60, clock=clock)
    first, second = shelf.release(1, {"store=1/brand=b": tiny}), shelf.release(2, {"store=1/brand=b": tiny})
    for wanted in ((first, second), (second,), (first, second)):
        holdings.adopt(shelf.snapshot(*wanted))
        clock.sleep(50)
    holdings.adopt(shelf.snapshot(second))
    clock.sleep(50)
    holdings.adopt(shelf.snapshot(second))
    assert holdings.get("oj", 1) is not None


def test_releases_share_the_segments_they_have_in_common(shelf, tiny):
    other = models.lightgbm_regressor(7)
    holdings = Holdings(shelf.store)
    fleet = {f"store={number}/brand=b": tiny for number in range(40)}
    first = shelf.release(1, fleet)
    holdings.adopt(shelf.snapshot(first))
    again = type(first)(2, first.manifest_digest, first.manifest, None)
    changed = shelf.release(3, {"": other})
    holdings.adopt(shelf.snapshot(again, first, changed))
    one, two = holdings.get("oj", 1), holdings.get("oj", 2)
    assert len(one.segments) > 1
    assert all(one.segments[shard] is two.segments[shard] for shard in one.segments)


def test_a_release_that_cannot_be_mapped_fails_alone(shelf, tiny):
    holdings = Holdings(shelf.store)
    good, bad = shelf.release(1, {"store=1/brand=b": tiny}), shelf.release(2, {"": tiny, "store=3/brand=b": tiny})
    for ref in bad.manifest.segments:
        shelf.store.delete(ref.digest)
    adoption = holdings.adopt(shelf.snapshot(good, bad))
    assert adoption.ready == (("oj", 1),)
    assert {(group, release, problem.code) for group, release, problem in adoption.failed} == {
        ("oj", 2, "segment_damaged")
    }


def test_a_release_with_a_damaged_segment_is_not_ready_and_its_other_shards_answer_until_it_is_healed(shelf, tiny):
    holdings = Holdings(shelf.store)
    stores = [str(number) for number in range(40)]
    release = shelf.release(1, {f"store={store}/brand=b": tiny for store in stores} | {"": tiny})
    broken = release.manifest.segments[-1]
    whole = shelf.store.path(broken.digest).read_bytes()
    shelf.store.delete(broken.digest)
    assert holdings.adopt(shelf.snapshot(release)).ready == ()

    held = holdings.get("oj", 1)
    lost = {store for store in stores if _refusal(held, store, frozenset()) == "segment_damaged"}
    assert len(lost) == broken.models
    assert {_refusal(held, store, frozenset()) for store in set(stores) - lost} == {None}
    disabled = frozenset(key_id(f"store={store}/brand=b") for store in lost)
    assert {_refusal(held, store, disabled) for store in lost} == {None}  # answered by the fallback model

    shelf.store.put([whole])
    assert holdings.adopt(shelf.snapshot(release)).ready == (("oj", 1),)
    assert {_refusal(holdings.get("oj", 1), store, frozenset()) for store in stores} == {None}


def _refusal(held, store, disabled):
    try:
        held.resolve((store, "b"), 2, disabled)
    except Problem as problem:
        return problem.code
    return None


def test_a_group_made_anew_under_its_old_name_is_not_answered_by_the_old_one(shelf, tiny):
    holdings = Holdings(shelf.store)
    holdings.adopt(shelf.snapshot(shelf.release(1, {"store=1/brand=b": tiny})))
    before = holdings.get("oj", 1)
    before.resolve(("1", "b"), 9, NOTHING)
    holdings.adopt(shelf.snapshot(shelf.release(1, {"store=2/brand=b": tiny})))
    with pytest.raises(PartitionNotFoundError):
        holdings.get("oj", 1).resolve(("1", "b"), 9, NOTHING)
    assert before.resolve(("1", "b"), 9, NOTHING).row == 0


def test_what_is_remembered_of_a_key_depends_on_neither_cap_nor_holds(shelf, tiny):
    holdings = Holdings(shelf.store)
    holdings.adopt(shelf.snapshot(shelf.release(1, {"store=1/brand=b": tiny, "brand=b": tiny, "": tiny})))
    held = holdings.get("oj", 1)
    off = frozenset({key_id("store=1/brand=b")})
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = ("1", "b") if rng.random() < 0.5 else ("2", "b")
        disabled = off if rng.random() < 0.5 else NOTHING
        cap = int(rng.integers(0, 3))
        level = 0 if values == ("1", "b") and not disabled else 1
        if level <= cap:
            assert held.resolve(values, cap, disabled).use.fallback_level == level
        else:
            with pytest.raises(PartitionNotFoundError):
                held.resolve(values, cap, disabled)


def test_models_of_equal_bytes_are_loaded_once_for_one_signature(shelf, tiny):
    holdings = Holdings(shelf.store)
    first = shelf.release(1, {"store=1/brand=b": tiny, "brand=b": tiny})
    holdings.adopt(shelf.snapshot(first))
    held = holdings.get("oj", 1)
    assert held.resolve(("1", "b"), 9, NOTHING).identity == held.resolve(("2", "b"), 9, NOTHING).identity


def fleet(count):
    return {f"store={number}/brand=b": models.lightgbm_regressor(number) for number in range(count)}


def test_warm_up_loads_small_models_up_to_the_budget(shelf):
    with Bench(shelf, budget=8 * 20_000).hold(fleet(12)) as bench:
        warm_up = WarmUp(bench.holdings, bench.cache, bench.loader)
        assert warm_up.warm() == 8
        assert bench.cache.stats().models == 8
        assert bench.cache.stats().evictions == 0
        assert warm_up.warm() == 0


def test_warm_up_leaves_large_models_to_their_first_request_and_survives_bad_ones(shelf):
    found = fleet(3) | {"": models.TinyModel("onnx", None, b"no model")}
    with Bench(shelf, large_from=10_000).hold(found) as bench:
        assert WarmUp(bench.holdings, bench.cache, bench.loader).warm() == 0
    with Bench(shelf).hold(found) as bench:
        assert WarmUp(bench.holdings, bench.cache, bench.loader).warm() == 4
        assert bench.cache.stats().models == 3


def test_warm_up_runs_in_the_background_until_stopped(shelf):
    with Bench(shelf).hold(fleet(3)) as bench:
        warm_up = WarmUp(bench.holdings, bench.cache, bench.loader)
        warm_up.start()
        warm_up.stop()
        warm_up.stop()
        WarmUp(bench.holdings, bench.cache, bench.loader).stop()
