"""The demo's history, fleets and the judge of its answers."""

from datetime import UTC, datetime

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from manymodels.cli.demo import DisagreementError, _conclude
from manymodels.cli.session import Session
from manymodels.demo.agreement import Agreement, Expected, asked_of, expected_answers, judged
from manymodels.demo.history import (
    FEATURES,
    NEW_BRAND,
    Shelf,
    make_history,
    next_weeks,
    trained_partitions,
    untrained_partitions,
)
from manymodels.demo.parquet import write_fleet
from manymodels.demo.tour import tour
from manymodels.demo.training import KINDS, fleet_size, train_fleet

RIDGE, LIGHTGBM, _ = KINDS
SHELF = Shelf(stores=4, new_stores=1, weeks=60)


@pytest.fixture(scope="module")
def history():
    return make_history(SHELF)


@pytest.fixture(scope="module")
def fleets(history):
    return {kind.runtime: list(train_fleet(kind, history)) for kind in KINDS}


def test_the_history_is_the_same_every_time(history):
    pd.testing.assert_frame_equal(history, make_history(SHELF))


def test_the_history_covers_every_trained_partition_and_no_other(history):
    keys = history[["region", "store", "brand"]].drop_duplicates()
    assert [tuple(row) for row in keys.to_numpy()] == [
        tuple(each.as_key().values()) for each in trained_partitions(SHELF)
    ]
    assert len(history) == len(trained_partitions(SHELF)) * SHELF.weeks


def test_the_history_is_believable(history):
    by_promotion = history.groupby("promotion")["units"].mean()
    assert (history["units"] >= 0).all()
    assert history["price"].between(1, 5).all()
    assert by_promotion["none"] < by_promotion["flyer"] < by_promotion["display"]


def test_the_default_shelf_has_several_hundred_partitions():
    assert 200 < len(trained_partitions(Shelf())) < 1000
    assert {each.brand for each in untrained_partitions(Shelf())} >= {NEW_BRAND, "citra"}


def test_a_fleet_has_every_partition_every_brand_and_the_whole_group(fleets, history):
    for fleet in fleets.values():
        assert len(fleet) == fleet_size(history) == 18 + 6 + 1
        assert [len(model.key) for model in fleet] == [3] * 18 + [1] * 6 + [0]


def test_lightgbm_bytes_answer_like_the_model_they_were_made_of(fleets, history):
    model = fleets["lightgbm"][0]
    rows = history.iloc[:60][list(FEATURES)]
    again = lgb.Booster(model_str=model.artifact.decode()).predict(rows.astype({"promotion": "category"}))
    assert np.array_equal(again, model.native(rows))


def test_the_parquet_file_has_null_where_a_key_is_partial(fleets, tmp_path):
    path = tmp_path / "fleet.parquet"
    write_fleet(path, LIGHTGBM, fleets["lightgbm"], datetime(2026, 11, 20, 6, tzinfo=UTC))
    table = pq.read_table(path)
    last, brand = table.slice(24, 1).to_pylist()[0], table.slice(18, 1).to_pylist()[0]
    assert table.num_rows == 25
    assert [last[field] for field in ("region", "store", "brand")] == [None, None, None]
    assert [brand[field] for field in ("region", "store", "brand")] == [None, None, "citra"]
    assert dict(last["provenance"])["trained_through"] == "2026-11-20"
    assert bytes(last["model"]) == fleets["lightgbm"][24].artifact


def test_the_model_that_must_answer_is_the_partitions_own_then_its_brands_then_the_groups(fleets):
    partitions = [trained_partitions(SHELF)[0], untrained_partitions(SHELF)[0], untrained_partitions(SHELF)[-1]]
    asked = asked_of(next_weeks(SHELF, partitions, rows=2))
    fleet = fleets["lightgbm"]
    expected = expected_answers(fleet, asked)
    assert expected.levels == [0, 0, 1, 1, 2, 2]
    features = asked.table[list(FEATURES)]
    assert np.array_equal(expected.predictions[4:], fleet[24].native(features.iloc[4:]))
    assert np.array_equal(expected.predictions[2:4], fleet[18].native(features.iloc[2:4]))


def test_an_exact_kind_is_judged_to_the_last_bit():
    expected = Expected(np.array([1.0, 2.0]), [0, 0])
    assert judged(LIGHTGBM, "single", expected, [1.0, 2.0], [0, 0]).wrong == ()
    (line,) = judged(LIGHTGBM, "single", expected, [1.0, np.nextafter(2.0, 3.0)], [0, 0]).wrong
    assert line.startswith("row 1")


def test_other_kinds_are_judged_to_a_millionth():
    expected = Expected(np.array([1.0, 2.0]), [0, 0])
    assert judged(RIDGE, "single", expected, [1.0, 2.0 * (1 + 9e-7)], [0, 0]).wrong == ()
    assert len(judged(RIDGE, "single", expected, [1.0, 2.0 * (1 + 2e-6)], [0, 0]).wrong) == 1


def test_a_missing_answer_and_a_wrong_fallback_never_pass():
    expected = Expected(np.array([1.0, 2.0]), [0, 1])
    for kind in KINDS:
        assert len(judged(kind, "single", expected, [1.0, None], [0, 1]).wrong) == 1
        assert len(judged(kind, "single", expected, [1.0, 2.0], [0, 0]).wrong) == 1


def test_one_wrong_answer_fails_the_demo(capsys):
    good = Agreement("g", "single", 2, 0, 0.0, ())
    bad = Agreement("g", "JSON bulk", 2, 0, 0.5, ("row 1: 1.0 instead of 2.0",))
    _conclude(Session(json=True), [good], 1.0)
    with pytest.raises(DisagreementError, match="g, JSON bulk, row 1"):
        _conclude(Session(json=True), [good, bad], 1.0)


def test_the_tour_names_the_address_in_every_step():
    steps = tour("http://127.0.0.1:9", SHELF, "manymodels")
    assert all("http://127.0.0.1:9" in text for _, text in steps)
    assert "/docs" in steps[-1][1]
