"""A worker with a seat holds its share, says of all else that others hold it, and never answers a wrong thing."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from registry.errors import PartitionNotFoundError, Problem
from registry.keys import key_id, shard_of
from tests.support import models
from tests.support.clocks import ManualClock
from tests.support.held import SCHEMA, SHARDS, Bench, Shelf
from workers.client import ScoreCall
from workers.errors import ReleaseNotReadyError
from workers.features import Features
from workers.holdings import Holdings
from workers.warmup import WarmUp

NOTHING = frozenset()
STORES = [str(number) for number in range(40)]
MINE, BOTH, OTHERS = (("me",), ("other", "me"), ("other",))


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


@pytest.fixture(scope="module")
def tiny():
    return models.lightgbm_regressor()


@pytest.fixture
def clock():
    return ManualClock()


def fleet(model):
    return {f"store={store}/brand=b": model for store in STORES} | {"": model}


def assigned(shelf, *releases, seats):
    """A snapshot in which the seats are assigned; None assigns nothing."""
    shown = shelf.snapshot(*releases)
    view = replace(shown.groups["oj"], seats={} if seats is None else {SHARDS: seats})
    return replace(shown, groups={"oj": view})


def shard(store):
    key = SCHEMA.key((store, "b"))
    return shard_of(SCHEMA.slot(key), SHARDS)


def said(held, store, disabled=NOTHING, max_level=2):
    try:
        return held.resolve((store, "b"), max_level, disabled).use.key
    except Problem as problem:
        return problem.code


def test_a_worker_holds_the_shards_of_its_seat_and_the_fallback_models(shelf, tiny, clock):
    holdings = Holdings(shelf.store, seat="me", clock=clock)
    release = shelf.release(1, fleet(tiny))
    assert holdings.adopt(assigned(shelf, release, seats=(MINE, OTHERS, BOTH, OTHERS))).ready == (("oj", 1),)
    held = holdings.get("oj", 1)
    assert set(held.segments) == {-1, 0, 2}
    assert held.elsewhere == {1, 3}


def test_a_key_of_a_shard_that_others_hold_is_not_ready_here_and_never_another_models(shelf, tiny, clock):
    holdings = Holdings(shelf.store, seat="me", clock=clock)
    holdings.adopt(assigned(shelf, shelf.release(1, fleet(tiny)), seats=(MINE, OTHERS, BOTH, OTHERS)))
    held = holdings.get("oj", 1)
    for _ in range(2):  # what was remembered changes nothing
        for store in STORES:
            expected = f"store={store}/brand=b" if shard(store) in (0, 2) else "release_not_ready"
            assert said(held, store) == said(held, store, max_level=0) == expected
    elsewhere = next(store for store in STORES if shard(store) == 1)
    assert said(held, elsewhere, frozenset({key_id(f"store={elsewhere}/brand=b")})) == ""  # on hold: no need to look
    assert said(held, elsewhere) == "release_not_ready"


def test_a_shard_without_models_has_its_fallback_everywhere(shelf, tiny, clock):
    holdings = Holdings(shelf.store, seat="me", clock=clock)
    only = next(store for store in STORES if shard(store) == 1)
    absent = next(store for store in STORES if shard(store) == 3)
    holdings.adopt(assigned(shelf, shelf.release(1, {f"store={only}/brand=b": tiny, "": tiny}), seats=(OTHERS,) * 4))
    held = holdings.get("oj", 1)
    assert said(held, only) == "release_not_ready"
    assert said(held, absent) == ""
    with pytest.raises(PartitionNotFoundError):
        held.resolve((absent, "b"), 0, NOTHING)


def test_a_worker_with_nothing_to_hold_is_ready_at_once(shelf, tiny, clock):
    holdings = Holdings(shelf.store, seat="me", clock=clock)
    release = shelf.release(1, fleet(tiny))
    assert holdings.adopt(assigned(shelf, release, seats=(OTHERS,) * 4)).ready == (("oj", 1),)
    assert set(holdings.get("oj", 1).segments) == {-1}


def test_a_worker_that_was_not_told_its_share_is_not_ready_and_holds_no_shard(shelf, tiny, clock):
    holdings = Holdings(shelf.store, seat="me", clock=clock)
    release = shelf.release(1, fleet(tiny))
    assert holdings.adopt(assigned(shelf, release, seats=None)).ready == ()
    assert set(holdings.get("oj", 1).segments) == {-1}
    assert said(holdings.get("oj", 1), "3") == "release_not_ready"
    assert holdings.adopt(assigned(shelf, release, seats=(MINE,) * 4)).ready == (("oj", 1),)
    assert said(holdings.get("oj", 1), "3") == "store=3/brand=b"
    holdings.adopt(assigned(shelf, release, seats=None))  # what it has been told once it does not forget
    assert said(holdings.get("oj", 1), "3") == "store=3/brand=b"


def test_a_worker_without_a_seat_holds_everything_whatever_is_assigned(shelf, tiny):
    holdings = Holdings(shelf.store)
    release = shelf.release(1, fleet(tiny))
    assert holdings.adopt(assigned(shelf, release, seats=(OTHERS,) * 4)).ready == (("oj", 1),)
    assert holdings.get("oj", 1).elsewhere == NOTHING
    before = holdings.get("oj", 1)
    holdings.adopt(assigned(shelf, release, seats=(MINE,) * 4))
    assert holdings.get("oj", 1) is before


def test_a_share_that_grows_keeps_what_is_open_and_what_is_remembered(shelf, tiny, clock):
    holdings = Holdings(shelf.store, seat="me", clock=clock)
    release = shelf.release(1, fleet(tiny))
    holdings.adopt(assigned(shelf, release, seats=(MINE, OTHERS, OTHERS, OTHERS)))
    before = holdings.get("oj", 1)
    store = next(store for store in STORES if shard(store) == 0)
    resolved = before.resolve((store, "b"), 2, NOTHING)
    holdings.adopt(assigned(shelf, release, seats=(MINE, BOTH, OTHERS, OTHERS)))
    after = holdings.get("oj", 1)
    assert set(after.segments) == {-1, 0, 1}
    assert after.segments[0] is before.segments[0]
    assert after.resolve((store, "b"), 2, NOTHING) is resolved


def test_a_shard_that_was_taken_away_answers_for_a_while_and_then_is_others_alone(shelf, tiny, clock):
    holdings = Holdings(shelf.store, seat="me", keep_seconds=60, clock=clock)
    release = shelf.release(1, fleet(tiny))
    store = next(store for store in STORES if shard(store) == 1)
    holdings.adopt(assigned(shelf, release, seats=(MINE, MINE, OTHERS, OTHERS)))
    assert said(holdings.get("oj", 1), store) == f"store={store}/brand=b"
    fewer = assigned(shelf, release, seats=(MINE, OTHERS, OTHERS, OTHERS))
    for seconds in (0, 59):
        clock.sleep(seconds)
        assert holdings.adopt(fewer).ready == (("oj", 1),)
        assert said(holdings.get("oj", 1), store) == f"store={store}/brand=b"
    clock.sleep(1)
    holdings.adopt(fewer)
    assert set(holdings.get("oj", 1).segments) == {-1, 0}
    assert said(holdings.get("oj", 1), store) == "release_not_ready"


def test_a_shard_that_comes_back_in_time_stays_for_good(shelf, tiny, clock):
    holdings = Holdings(shelf.store, seat="me", keep_seconds=60, clock=clock)
    release = shelf.release(1, fleet(tiny))
    for seats in ((MINE,) * 4, (OTHERS,) * 4, (MINE,) * 4, (OTHERS,) * 4):
        holdings.adopt(assigned(shelf, release, seats=seats))
        clock.sleep(50)
    holdings.adopt(assigned(shelf, release, seats=(OTHERS,) * 4))
    assert len(holdings.get("oj", 1).segments) == 5


def test_a_damaged_segment_of_its_share_makes_a_release_unready_and_one_of_others_does_not(shelf, tiny, clock):
    release = shelf.release(1, fleet(tiny))
    shelf.store.delete(release.manifest.by_shard[1].digest)
    mine, others = (Holdings(shelf.store, seat=seat, clock=clock) for seat in ("me", "other"))
    shown = assigned(shelf, release, seats=(MINE, OTHERS, OTHERS, OTHERS))
    assert mine.adopt(shown).ready == (("oj", 1),)
    assert others.adopt(shown).ready == ()
    store = next(store for store in STORES if shard(store) == 1)
    assert said(mine.get("oj", 1), store) == "release_not_ready"
    assert said(others.get("oj", 1), store) == "segment_damaged"


def test_segments_are_fetched_several_at_once_and_opened_in_order(shelf, tiny):
    together = threading.Barrier(5, timeout=30)

    class Slow:
        """A store that answers nobody before five have asked."""

        def path(self, digest):
            together.wait()
            return shelf.store.path(digest)

    release = shelf.release(1, fleet(tiny))
    holdings = Holdings(Slow(), fetch_threads=5)
    assert holdings.adopt(shelf.snapshot(release)).ready == (("oj", 1),)
    assert list(holdings.get("oj", 1).segments) == [-1, 0, 1, 2, 3]


def test_models_that_come_with_a_larger_share_are_warmed_too(shelf, tiny):
    with Bench(shelf, seat="me") as bench:
        release = shelf.release(
            1, {f"store={store}/brand=b": models.lightgbm_regressor(int(store)) for store in STORES}
        )
        warm_up = WarmUp(bench.holdings, bench.cache, bench.loader)
        bench.holdings.adopt(assigned(shelf, release, seats=(MINE, OTHERS, OTHERS, OTHERS)))
        first = warm_up.warm()
        bench.holdings.adopt(assigned(shelf, release, seats=(MINE, MINE, OTHERS, OTHERS)))
        second = warm_up.warm()
        assert warm_up.warm() == 0
        in_shards = [shard(store) for store in STORES]
        assert (first, second) == (in_shards.count(0), in_shards.count(1))


def test_a_call_with_a_key_that_others_hold_is_for_another_worker_whole(shelf, tiny):
    mine = next(store for store in STORES if shard(store) == 0)
    others = next(store for store in STORES if shard(store) == 1)
    with Bench(shelf, seat="me") as bench:
        bench.holdings.adopt(assigned(shelf, shelf.release(1, fleet(tiny)), seats=(MINE, OTHERS, OTHERS, OTHERS)))
        row = Features(np.ones((1, 2)))
        one = ScoreCall("oj", 1, [(mine, "b")], None, row, 9, NOTHING)
        assert asyncio.run(bench.worker.score(one)).models[0].key == f"store={mine}/brand=b"
        for keys, key_rows in (
            ([(others, "b")], None),
            ([(mine, "b"), (others, "b")], np.array([0, 1], dtype=np.int32)),
        ):
            rows = Features(np.ones((len(keys), 2)))
            call = ScoreCall("oj", 1, keys, key_rows, rows, 9, NOTHING)
            with pytest.raises(ReleaseNotReadyError):
                bench.worker.score_now(call) or asyncio.run(bench.worker.score(call))
            with pytest.raises(ReleaseNotReadyError):
                asyncio.run(bench.worker.score(call))
