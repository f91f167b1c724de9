import asyncio
import gc

import numpy as np
import pytest

from registry.errors import PartitionNotFoundError
from registry.keys import key_id
from tests.support import models
from tests.support.clocks import ManualClock
from tests.support.held import Bench, Shelf
from workers.client import ScoreCall
from workers.errors import ModelLoadError, PredictionFailedError, ReleaseNotReadyError
from workers.features import Features

NOTHING = frozenset()


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


def call(keys, key_rows=None, matrix=None, *, release=1, max_level=9, disabled=NOTHING):
    if matrix is None:
        matrix = np.random.default_rng(0).uniform(0, 10, (1 if key_rows is None else len(key_rows), 2))
    rows = None if key_rows is None else np.array(key_rows, dtype=np.int32)
    return ScoreCall("oj", release, keys, rows, Features(matrix), max_level, disabled)


def run(bench, *calls):
    async def all_of_them():
        return [await bench.worker.score(one) for one in calls]

    answers = asyncio.run(all_of_them())
    return answers[0] if len(answers) == 1 else answers


def fleet(count, **options):
    return {f"store={number}/brand=b": models.lightgbm_regressor(number, **options) for number in range(count)}


def test_one_key_is_answered_by_its_own_model(shelf):
    tiny = fleet(3)
    with Bench(shelf).hold(tiny) as bench:
        asked = call([("1", "b")])
        cold, warm = run(bench, asked, asked)
        expected = tiny["store=1/brand=b"].native.predict(asked.features.matrix)
        assert cold.scores[:, 0].tolist() == warm.scores[:, 0].tolist() == expected.tolist()
        use = warm.models[0]
        assert (use.key, use.version, use.release, use.fallback_level) == ("store=1/brand=b", 1, 1, 0)
        assert bench.cache.stats().hits == 1


def test_a_cold_predict_counts_one_miss_though_it_is_asked_for_on_the_spot_first(shelf):
    with Bench(shelf).hold(fleet(1)) as bench:
        asked = call([("0", "b")])
        assert bench.worker.score_now(asked) is None
        run(bench, asked)
        assert bench.cache.stats().misses == 1
        assert bench.worker.score_now(asked) is not None
        assert bench.cache.stats().hits == 1


def test_a_bulk_gives_every_row_the_answer_of_its_own_key(shelf):
    tiny = fleet(20)
    with Bench(shelf).hold(tiny) as bench:
        keys = [(str(number), "b") for number in range(20)]
        for rows in (range(20), np.random.default_rng(1).integers(0, 20, 500), np.repeat(np.arange(20), 30)):
            asked = call(keys, rows)
            expected = np.array(
                [
                    tiny[f"store={number}/brand=b"].native.predict(asked.features.matrix[[row]])
                    for row, number in enumerate(rows)
                ]
            )
            for answer in run(bench, asked, asked):
                assert not answer.problems
                np.testing.assert_array_equal(answer.scores, expected)


def test_a_large_bulk_is_scored_in_a_thread_alike(shelf):
    tiny = fleet(3)
    with Bench(shelf).hold(tiny) as bench:
        rows = np.arange(6000) % 3
        asked = call([(str(number), "b") for number in range(3)], rows)
        answer = run(bench, asked)
        for number in range(3):
            native = tiny[f"store={number}/brand=b"].native.predict(asked.features.matrix[rows == number])
            np.testing.assert_array_equal(answer.scores[rows == number, 0], native)
        one = call([("2", "b")], matrix=asked.features.matrix)
        np.testing.assert_array_equal(
            run(bench, one).scores[:, 0], tiny["store=2/brand=b"].native.predict(asked.features.matrix)
        )


def test_the_fallback_chain_is_walked_and_capped(shelf):
    tiny = {"store=1/brand=b": models.ridge(1), "brand=b": models.ridge(2), "": models.ridge(3)}
    with Bench(shelf).hold(tiny) as bench:
        keys = [("1", "b"), ("9", "b"), ("9", "other")]
        answer = run(bench, call(keys, [0, 1, 2]))
        assert [use.fallback_level for use in answer.models] == [0, 1, 2]
        assert [use.key for use in answer.models] == ["store=1/brand=b", "brand=b", ""]
        capped = run(bench, call(keys, [0, 1, 2], max_level=1))
        assert [use is None for use in capped.models] == [False, False, True]
        assert type(capped.problems[2]) is PartitionNotFoundError
        assert np.isnan(capped.scores[2]).all()
        np.testing.assert_array_equal(capped.scores[:2], answer.scores[:2])
        single = run(bench, call([("9", "other")], max_level=0))
        assert single.models == (None,)
        assert type(single.problems[0]) is PartitionNotFoundError


def test_disabled_keys_are_passed_over_at_every_level(shelf):
    tiny = {"store=1/brand=b": models.ridge(1), "brand=b": models.ridge(2), "": models.ridge(3)}
    with Bench(shelf).hold(tiny) as bench:
        for off, level in (([], 0), (["store=1/brand=b"], 1), (["store=1/brand=b", "brand=b"], 2), (["brand=b"], 0)):
            disabled = frozenset(key_id(text) for text in off)
            assert run(bench, call([("1", "b")], disabled=disabled)).models[0].fallback_level == level
        everything = frozenset(key_id(text) for text in tiny)
        assert type(run(bench, call([("1", "b")], disabled=everything)).problems[0]) is PartitionNotFoundError


def test_one_bad_key_never_fails_the_others(shelf):
    good = models.ridge()
    bad = models.TinyModel("lightgbm", None, b"tree\nthis is no model")
    with Bench(shelf).hold({"store=1/brand=b": good, "store=2/brand=b": bad}) as bench:
        answer = run(bench, call([("1", "b"), ("2", "b"), ("3", "b")], [0, 1, 2, 0]))
        assert type(answer.problems[1]) is ModelLoadError
        assert type(answer.problems[2]) is PartitionNotFoundError
        assert np.isfinite(answer.scores[[0, 3]]).all()
        assert np.isnan(answer.scores[[1, 2]]).all()
        assert [use is None for use in answer.models] == [False, True, True]


def test_rows_a_model_refuses_fail_its_key_only(shelf):
    with Bench(shelf).hold({"store=1/brand=b": models.ridge(), "store=2/brand=b": models.hist_boosting()}) as bench:
        matrix = np.array([[np.nan, 1.0], [np.nan, 1.0]])
        for _ in range(2):
            answer = run(bench, call([("1", "b"), ("2", "b")], [0, 1], matrix))
            assert type(answer.problems[0]) is PredictionFailedError
            assert np.isfinite(answer.scores[1]).all()
        assert type(run(bench, call([("1", "b")], matrix=matrix[:1])).problems[0]) is PredictionFailedError


def test_a_release_that_is_not_held_is_never_a_missing_partition(shelf):
    with Bench(shelf).hold(fleet(1)) as bench:
        with pytest.raises(ReleaseNotReadyError):
            run(bench, call([("0", "b")], release=2))
        with pytest.raises(ReleaseNotReadyError):
            asyncio.run(bench.worker.resolve("oj", 7, ("0", "b"), 9, NOTHING))
        assert asyncio.run(bench.worker.resolve("oj", 1, ("0", "b"), 9, NOTHING)).version == 1


def test_a_thousand_first_requests_for_a_cold_large_model_load_it_once(shelf):
    with Bench(shelf, large_from=10_000, threads=4) as bench:
        bench.hold(
            {"store=1/brand=b": models.lightgbm_regressor(trees=500)}, large=("store=1/brand=b",), heap=2_000_000
        )
        asked = call([("1", "b")])

        async def storm():
            return await asyncio.gather(*(bench.worker.score(asked) for _ in range(1000)))

        answers = asyncio.run(storm())
        assert len({answer.scores[0, 0] for answer in answers}) == 1
        assert bench.loader.loads == 1
        assert bench.cache.stats().large_models == 1


def test_a_failed_load_is_refused_for_a_while_without_trying_again(shelf):
    clock = ManualClock()
    bad = models.TinyModel("onnx", None, b"no model")
    with Bench(shelf, refuse_seconds=5.0, clock=clock).hold({"store=1/brand=b": bad}) as bench:
        asked = call([("1", "b")])
        for _ in range(10):
            assert type(run(bench, asked).problems[0]) is ModelLoadError
        assert bench.loader.loads == 1
        clock.sleep(5.0)
        run(bench, asked)
        assert bench.loader.loads == 2


def test_a_caller_that_gives_up_does_not_end_the_load_for_others(shelf):
    with Bench(shelf, threads=1).hold({"store=1/brand=b": models.lightgbm_regressor(trees=300)}) as bench:

        async def two():
            first = asyncio.create_task(bench.worker.score(call([("1", "b")])))
            second = asyncio.create_task(bench.worker.score(call([("1", "b")])))
            await asyncio.sleep(0)
            first.cancel()
            return await second

        assert np.isfinite(asyncio.run(two()).scores).all()
        assert bench.loader.loads == 1


def test_a_load_that_outlasts_the_deadline_is_a_problem_of_that_key(shelf):
    with Bench(shelf, deadline_seconds=0.0).hold(fleet(1)) as bench:
        answer = run(bench, call([("0", "b")]))
        assert type(answer.problems[0]) is ModelLoadError
        assert "not loaded in 0 s" in answer.problems[0].detail


def test_a_bulk_over_more_models_than_the_budget_answers_all_and_stays_within_it(shelf):
    tiny = fleet(60)
    with Bench(shelf, budget=10 * 20_000).hold(tiny) as bench:
        keys = [(str(number), "b") for number in range(60)]
        asked = call(keys, range(60))
        for _ in range(3):
            answer = run(bench, asked)
            assert not answer.problems
            gc.collect()
            assert bench.cache.stats().bytes <= 10 * 20_000
        assert bench.cache.stats().evictions > 100
        expected = [tiny[f"store={n}/brand=b"].native.predict(asked.features.matrix[[n]])[0] for n in range(60)]
        assert answer.scores[:, 0].tolist() == expected


def test_no_model_is_answered_by_another_versions_bytes(shelf):
    """The same key in two releases: each call is answered from exactly the release it names."""
    one, two = models.lightgbm_regressor(1), models.lightgbm_regressor(2)
    with Bench(shelf) as bench:
        releases = [shelf.release(1, {"store=1/brand=b": one}), shelf.release(2, {"store=1/brand=b": two})]
        bench.holdings.adopt(shelf.snapshot(*releases))
        for release, tiny in ((1, one), (2, two), (1, one)):
            asked = call([("1", "b")], release=release)
            answer = run(bench, asked)
            assert answer.scores[:, 0].tolist() == tiny.native.predict(asked.features.matrix).tolist()
            assert answer.models[0].release == answer.models[0].version == release
