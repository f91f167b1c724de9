"""Packed models answer from the mapped segment as their native library would, whatever lies beside them."""

import asyncio
import ctypes
import os
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import workers.packed
import workers.resolving
import workers.worker
from discovery.snapshot import LiveRelease
from registry.errors import PartitionNotFoundError
from registry.keys import key_id, shard_of
from registry.signature import Signature
from tests.support import models
from tests.support.held import SCHEMA, SHARDS, Bench, Shelf
from workers.client import ScoreCall
from workers.errors import ModelLoadError, OverloadedError, SegmentDamagedError
from workers.features import Features
from workers.mappings import Mappings

NOTHING = frozenset()
TEXTS = Signature.from_json(
    {
        "inputs": [
            {"name": "price", "nullable": True},
            {"name": "feat"},
            {"name": "colour", "dtype": "string", "nullable": True},
        ],
        "outputs": [{"name": "sales"}],
    }
)


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path, packed=True)


def fleet(count, **options):
    return {f"store={number}/brand=b": models.lightgbm_regressor(number, **options) for number in range(count)}


def matrix(rows, seed=0):
    return np.random.default_rng(seed).uniform(0, 10, (rows, 2))


def call(keys, features, key_rows=None, *, max_level=9, disabled=NOTHING):
    rows = None if key_rows is None else np.array(key_rows, dtype=np.int32)
    features = features if isinstance(features, Features) else Features(features)
    return ScoreCall("oj", 1, keys, rows, features, max_level, disabled)


def run(bench, asked):
    return asyncio.run(bench.worker.score(asked))


def native(tiny, rows):
    return np.array([model.native.predict(row[None, :])[0] for model, row in zip(tiny, rows, strict=True)])


def test_a_packed_model_is_answered_on_the_spot_and_never_loaded(shelf):
    tiny = fleet(3)
    with Bench(shelf).hold(tiny) as bench:
        rows = matrix(1)
        for features in (Features(rows), Features(None, cells=rows[0].tolist())):
            answer = bench.worker.score_now(call([("1", "b")], features))
            assert answer.scores[:, 0].tolist() == tiny["store=1/brand=b"].native.predict(rows).tolist()
            assert answer.models[0].key == "store=1/brand=b"
        many = matrix(50)
        answer = bench.worker.score_now(call([("2", "b")], many))
        np.testing.assert_array_equal(answer.scores[:, 0], tiny["store=2/brand=b"].native.predict(many))
        assert bench.loader.loads == bench.cache.stats().models == 0


@pytest.mark.parametrize("rows", [range(20), [3] * 40, np.random.default_rng(1).integers(0, 20, 9000)])
def test_a_bulk_gives_every_row_the_answer_of_its_own_key(shelf, rows):
    tiny = fleet(20)
    with Bench(shelf).hold(tiny) as bench:
        asked = call([(str(number), "b") for number in range(20)], matrix(len(rows)), rows)
        answer = run(bench, asked)
        assert not answer.problems
        of = np.array(rows)
        for number in set(of.tolist()):
            expected = tiny[f"store={number}/brand=b"].native.predict(asked.features.matrix[of == number])
            np.testing.assert_array_equal(answer.scores[of == number, 0], expected)


def test_packed_and_native_models_share_a_bulk(shelf):
    tiny = {"store=1/brand=b": models.lightgbm_regressor(1), "store=2/brand=b": models.onnx_ridge(2)}
    tiny |= {"store=3/brand=b": models.lightgbm_regressor(3)}
    with Bench(shelf).hold(tiny) as bench:
        rows = matrix(300)
        of = np.arange(300) % 4
        answer = run(bench, call([("1", "b"), ("2", "b"), ("3", "b"), ("9", "b")], rows, of))
        assert {position: type(problem) for position, problem in answer.problems.items()} == {3: PartitionNotFoundError}
        for position, number in ((0, 1), (2, 3)):
            expected = tiny[f"store={number}/brand=b"].native.predict(rows[of == position])
            np.testing.assert_array_equal(answer.scores[of == position, 0], expected)
        assert np.isfinite(answer.scores[of == 1]).all()
        assert np.isnan(answer.scores[of == 3]).all()
        assert bench.cache.stats().models == 1


def test_each_packed_model_encodes_texts_by_its_own_categories(tmp_path):
    lists = (["red", "green"], ["green", "blue", "red"])
    tiny = {f"store={n}/brand=b": models.lightgbm_categorical(lists[n], n) for n in range(2)}
    with Bench(Shelf(tmp_path, signature=TEXTS, packed=True)).hold(tiny) as bench:
        numbers = np.column_stack((matrix(12), np.full(12, np.nan)))
        colours = ["red", "green", "blue", None, "never seen", "red"] * 2
        of = [0] * 6 + [1] * 6
        features = Features(numbers, {2: colours})
        bulk = run(bench, call([("0", "b"), ("1", "b")], features, of))
        assert not bulk.problems
        for row in range(12):
            one = Features(numbers[[row]], {2: [colours[row]]})
            single = bench.worker.score_now(call([(str(of[row]), "b")], one))
            known = lists[of[row]]
            code = known.index(colours[row]) if colours[row] in known else np.nan
            booster = tiny[f"store={of[row]}/brand=b"].native
            expected = booster.predict(np.array([[*numbers[row, :2], code]]), pandas_categorical=None)
            assert bulk.scores[row, 0] == single.scores[0, 0] == expected[0]
        assert bench.loader.loads == 0


def test_what_is_remembered_of_keys_never_holds_more_codes_than_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(workers.resolving, "MAX_CODES", 7)
    tiny = {f"store={n}/brand=b": models.lightgbm_categorical(["red", "green"], n) for n in range(8)}
    with Bench(Shelf(tmp_path, signature=TEXTS, packed=True)).hold(tiny) as bench:
        [held] = bench.holdings.releases()
        for number in (*range(8), *range(8)):
            assert held.resolve((str(number), "b"), 0, NOTHING).use.key == f"store={number}/brand=b"
            held_codes = [len(known) for one in held.remembered.values() for _, known in one.codes]
            assert 0 < sum(held_codes) <= 7


def test_a_hold_leads_to_the_packed_fallback(shelf):
    tiny = {"store=1/brand=b": models.lightgbm_regressor(1), "brand=b": models.lightgbm_regressor(2)}
    with Bench(shelf).hold(tiny) as bench:
        rows = matrix(1)
        for off, level, key in ((NOTHING, 0, "store=1/brand=b"), ({key_id("store=1/brand=b")}, 1, "brand=b")):
            answers = [
                bench.worker.score_now(call([("1", "b")], rows, disabled=frozenset(off))),
                run(bench, call([("1", "b")], rows, [0], disabled=frozenset(off))),
            ]
            for answer in answers:
                assert answer.models[0].fallback_level == level
                assert answer.scores[0, 0] == tiny[key].native.predict(rows)[0]


def shard_path(bench, text):
    """The segment file of a key, made writable: somebody damages it behind the store's back."""
    shard = shard_of(SCHEMA.slot(SCHEMA.parse_text(text)), SHARDS)
    [held] = bench.holdings.releases()
    digest = next(ref.digest for ref in bench.manifest.segments if ref.shard == shard)
    path = bench.shelf.store.path(digest)
    path.chmod(0o600)
    return path, held.segments[shard]


def test_a_damaged_pack_is_refused_and_its_neighbours_answer(shelf):
    tiny = fleet(12)
    with Bench(shelf).hold(tiny) as bench:
        path, segment = shard_path(bench, "store=1/brand=b")
        row = segment.find(key_id("store=1/brand=b"))
        with path.open("r+b") as file:
            file.seek(segment.header.index_end + segment.packs.offset(row) + 300)
            file.write(b"\xff")
        rows = matrix(12)
        answer = run(bench, call([(str(number), "b") for number in range(12)], rows, range(12)))
        assert {position: type(problem) for position, problem in answer.problems.items()} == {1: SegmentDamagedError}
        good = [number for number in range(12) if number != 1]
        expected = native([tiny[f"store={number}/brand=b"] for number in good], rows[good])
        np.testing.assert_array_equal(answer.scores[good, 0], expected)
        assert np.isnan(answer.scores[1, 0])
        single = bench.worker.score_now(call([("1", "b")], rows[:1]))
        assert type(single.problems[0]) is SegmentDamagedError


def test_a_pack_that_was_sound_for_one_signature_is_checked_again_for_another(shelf):
    with Bench(shelf) as bench:
        first = shelf.release(1, fleet(1))
        narrow = Signature.from_json({"inputs": [{"name": "price"}], "outputs": [{"name": "sales"}]})
        manifest = replace(first.manifest, release=2, signature=narrow)
        second = LiveRelease(2, shelf.store.put([manifest.to_bytes()]).digest, manifest, None)
        assert not bench.holdings.adopt(shelf.snapshot(first, second)).failed
        rows = matrix(1)
        assert not bench.worker.score_now(call([("0", "b")], rows)).problems
        answer = bench.worker.score_now(replace(call([("0", "b")], rows[:, :1]), release=2))
        assert type(answer.problems[0]) is SegmentDamagedError


def test_a_process_without_descriptors_cannot_load_for_now_and_says_nothing_of_damage(shelf):
    with Bench(shelf).hold(fleet(1)) as bench:
        asked = call([("0", "b")], matrix(1))
        former = resource.getrlimit(resource.RLIMIT_NOFILE)
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, former[1]))
        try:
            answer = bench.worker.score_now(asked)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, former)
        assert type(answer.problems[0]) is ModelLoadError
        assert not bench.worker.score_now(asked).problems


def test_a_file_cut_short_under_a_held_release_is_refused(shelf):
    with Bench(shelf).hold(fleet(1)) as bench:
        path, segment = shard_path(bench, "store=0/brand=b")
        os.truncate(path, segment.header.index_end + 64)
        answer = bench.worker.score_now(call([("0", "b")], matrix(1)))
        assert type(answer.problems[0]) is SegmentDamagedError


def test_what_must_come_from_the_disk_is_waited_for_beside_the_loop(shelf, monkeypatch):
    tiny = fleet(5)
    monkeypatch.setattr(workers.packed, "resident", lambda _address, _length: False)
    with Bench(shelf).hold(tiny) as bench:
        rows = matrix(5)
        asked = call([("3", "b")], rows[:1])
        assert bench.worker.score_now(asked) is None
        assert run(bench, asked).scores[0, 0] == tiny["store=3/brand=b"].native.predict(rows[:1])[0]
        assert bench.worker.score_now(asked) is not None
        answer = run(bench, call([(str(number), "b") for number in range(5)], rows, range(5)))
        expected = native([tiny[f"store={number}/brand=b"] for number in range(5)], rows)
        np.testing.assert_array_equal(answer.scores[:, 0], expected)


def test_a_budget_of_one_segment_serves_the_whole_fleet(shelf):
    tiny = fleet(30)
    with Bench(shelf, mapped_budget=1).hold(tiny) as bench:
        rows = matrix(30)
        for number in np.random.default_rng(2).integers(0, 30, 200).tolist():
            answer = bench.worker.score_now(call([(str(number), "b")], rows[[number]]))
            assert answer.scores[0, 0] == tiny[f"store={number}/brand=b"].native.predict(rows[[number]])[0]
        answer = run(bench, call([(str(number), "b") for number in range(30)], rows, range(30)))
        expected = native([tiny[f"store={number}/brand=b"] for number in range(30)], rows)
        np.testing.assert_array_equal(answer.scores[:, 0], expected)
        stats = bench.mappings.stats()
        assert stats.segments == 1
        assert stats.unmapped > 20


def test_a_mapping_lives_as_long_as_a_call_that_began_before_it_was_taken_away(shelf):
    with Bench(shelf).hold(fleet(12)) as bench:
        [held] = bench.holdings.releases()
        first, second = [segment.packs for segment in held.segments.values()][:2]
        mappings = Mappings(budget_bytes=1)
        pin = mappings.pin
        base = mappings.map(first)
        before = ctypes.string_at(base, 64)
        mappings.map(second)
        assert first.base == 0
        assert ctypes.string_at(base, 64) == before
        assert _is_mapped(base)
        del pin
        assert not _is_mapped(base)


def _is_mapped(address):
    with Path("/proc/self/maps").open() as maps:
        spans = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in maps]
    return any(start <= address < end for start, end in spans)


def test_many_rows_of_a_large_pack_are_no_work_for_the_event_loop(shelf, monkeypatch):
    with Bench(shelf).hold(fleet(2)) as bench:
        asked = call([("1", "b")], matrix(3))
        warm = run(bench, asked)
        assert bench.worker.score_now(asked) is not None
        largest = bench.holdings.get("oj", 1).largest_pack
        monkeypatch.setattr(workers.worker, "INLINE_BYTES", 3 * largest - 1)
        assert bench.worker.score_now(asked) is None
        assert bench.worker.score_now(call([("1", "b")], matrix(2))) is not None
        assert np.array_equal(run(bench, asked).scores, warm.scores)


def test_a_large_call_before_which_too_many_wait_is_refused_and_those_that_were_taken_are_answered(shelf, monkeypatch):
    monkeypatch.setattr(workers.worker, "INLINE_BYTES", 0)
    with Bench(shelf).hold(fleet(1)) as bench:
        asked = call([("0", "b")], matrix(3))
        expected = run(bench, asked).scores
        for _ in range(10):  # what one takes, as it was measured
            bench.worker._gate.answered(time.monotonic(), 0.1, 1, behind=1)

        async def together():
            begun = [bench.worker.begin(asked) for _ in range(20)]
            bulk = bench.worker.score(call([("0", "b")], matrix(3), [0, 0, 0]))
            return await asyncio.gather(bulk, *begun, return_exceptions=True)

        bulk, *answers = asyncio.run(together())
        refused = [answer for answer in answers if isinstance(answer, OverloadedError)]
        assert len(answers) - len(refused) == 6  # one at once, and half a second of others before the last
        assert all(np.array_equal(answer.scores, expected) for answer in answers if answer not in refused)
        assert np.array_equal(bulk.scores, expected)
