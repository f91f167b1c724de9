"""Whatever happens beside a call, what it reads stays mapped until it has read it."""

import asyncio
import threading
import weakref

import numpy as np
import pytest

import workers.packed
from tests.support import models
from tests.support.held import Bench, Shelf
from workers.client import ScoreCall
from workers.errors import SegmentDamagedError
from workers.features import Features
from workers.scoring import Bulk

NOTHING = frozenset()


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path, packed=True)


def fleet(count):
    return {f"store={number}/brand=b": models.lightgbm_regressor(number) for number in range(count)}


def bulk_of(keys, rows):
    features = np.random.default_rng(0).uniform(0, 10, (rows, 2))
    return ScoreCall("oj", 1, keys, (np.arange(rows) % len(keys)).astype(np.int32), Features(features), 9, NOTHING)


def packs_of(bench):
    """The packs of the segments of the one release that is held."""
    [held] = bench.holdings.releases()
    return [segment.packs for segment in held.segments.values()]


def unmap(bench, packs):
    """Have others take the place of what is mapped; the mapping that lost its place, by weak reference."""
    gone = weakref.ref(packs.mapping)
    for other in packs_of(bench):
        if other is not packs:
            bench.mappings.map(other)
    assert packs.base == 0
    return gone


class Unmapped:
    """Packs that lose their address the moment it has been read."""

    def __init__(self, packs):
        self._packs = packs
        self._asked = 0

    def __getattr__(self, name):
        return getattr(self._packs, name)

    @property
    def base(self):
        self._asked += 1
        return self._packs.base if self._asked == 1 else 0


def test_an_address_is_whole_even_if_its_mapping_goes_while_it_is_made(shelf):
    with Bench(shelf).hold(fleet(1)) as bench:
        asked = bulk_of([("0", "b")], 3)
        asyncio.run(bench.worker.score(asked))
        [held] = bench.holdings.releases()
        resolved = held.remembered["0", "b"]
        expected = resolved.packs.base + resolved.pack
        resolved.packs = Unmapped(resolved.packs)
        bulk = Bulk(held, asked, bench.cache, lambda _: pytest.fail("its address is known"), 1)
        assert bulk.addresses == [expected]


def test_a_bulk_that_nobody_waits_for_any_more_keeps_what_it_reads_mapped(shelf, monkeypatch):
    begun, go_on, seen = threading.Event(), threading.Event(), []
    score_sheet = workers.packed.PackedModels.score_sheet

    def slow(self, *given):
        begun.set()
        assert go_on.wait(30)
        seen.append(gone() is not None)
        score_sheet(self, *given)

    with Bench(shelf, mapped_budget=1).hold(fleet(12)) as bench:
        keys = [("3", "b")]
        asyncio.run(bench.worker.score(bulk_of(keys, 10)))
        [held] = bench.holdings.releases()
        packs = held.remembered["3", "b"].packs
        monkeypatch.setattr(workers.packed.PackedModels, "score_sheet", slow)

        async def give_up():
            asked = asyncio.create_task(bench.worker.score(bulk_of(keys, 5000)))
            await asyncio.to_thread(begun.wait, 30)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

        asyncio.run(give_up())
        gone = unmap(bench, packs)
        go_on.set()
    assert seen == [True]
    assert gone() is None


def test_a_pack_stays_mapped_while_it_is_checked(shelf, monkeypatch):
    seen = []

    def check_pack(packs, *_given):
        gone = unmap(bench, packs)
        seen.append(gone() is not None)
        raise SegmentDamagedError("enough seen")

    with Bench(shelf, mapped_budget=1).hold(fleet(12)) as bench:
        [held] = bench.holdings.releases()
        resolved = held.resolve(("3", "b"), 0, NOTHING)
        monkeypatch.setattr(workers.packed, "check_pack", check_pack)
        with pytest.raises(SegmentDamagedError):
            workers.packed.PackedModels(bench.mappings).bring(resolved)
    assert seen == [True]


def test_a_pack_that_many_keys_need_is_brought_from_the_disk_once(shelf, monkeypatch):
    checked = []
    check_pack = workers.packed.check_pack
    monkeypatch.setattr(workers.packed, "resident", lambda _address, _length: False)
    monkeypatch.setattr(workers.packed, "check_pack", lambda *given: checked.append(given[1]) or check_pack(*given))
    with Bench(shelf).hold({"brand=b": models.lightgbm_regressor(1), **fleet(3)}) as bench:
        asked = bulk_of([(str(number), "b") for number in range(300)], 300)
        answer = asyncio.run(bench.worker.score(asked))
        assert not answer.problems
        assert np.isfinite(answer.scores).all()
        assert len(checked) == 4
        asyncio.run(bench.worker.score(asked))
        assert len(checked) == 4


def test_what_bulks_use_is_not_the_first_to_be_unmapped(shelf):
    with Bench(shelf).hold(fleet(12)) as bench:
        asyncio.run(bench.worker.score(bulk_of([(str(number), "b") for number in range(12)], 12)))
        [held] = bench.holdings.releases()
        mapped = sorted(packs_of(bench), key=lambda packs: packs.used)
        oldest = next(key for key, one in held.remembered.items() if one.packs is mapped[0])
        asyncio.run(bench.worker.score(bulk_of([oldest], 4)))
        assert mapped[0].used >= max(packs.used for packs in mapped)
