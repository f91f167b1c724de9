"""A cluster that loses most of what it has: most workers, all of them, or the bucket when a model is needed from it."""

import hashlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.local.house import SERVICES, House
from manymodels import Client
from manymodels.errors import BusyError
from manymodels.retries import PER_SECOND, SHARE, WINDOW_SECONDS
from tests.support.clusters import SETTINGS, all_ask, callers_of_gateways, counting, serving
from tests.support.constant import ROW, constant
from tests.support.disks import small_disk
from tests.support.installed import needed
from tests.support.ledger import failed, traffic
from tests.support.stores import GROUP, PREDICT, asking, flowing_on, key, value, wrong
from tests.support.waiting import until
from workers.segments.layout import LARGE_MODEL_BYTES

pytestmark = pytest.mark.alone

STORES = range(1, 33)
RATE = 60
WORKERS = ("worker-1", "worker-2", "worker-3")
LOAD_SECONDS = 3.0
LARGE = range(900, 905)  # models that lie in the bucket until somebody asks for them
predict = asking(STORES)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A cluster whose every worker holds every shard, and some models that no worker has fetched."""
    settings = SETTINGS | {
        "MANYMODELS_LOAD_SECONDS": f"{LOAD_SECONDS}",
        "MANYMODELS_FAILED_LOAD_SECONDS": "0.5",
        "MANYMODELS_WARM_UP": "false",
    }
    made = needed(lambda: House(tmp_path_factory.mktemp("cluster"), services=SERVICES, settings=settings))
    with serving(made, STORES, replicas=3):
        with Client(made["gateway-1"].address) as client:
            for store in LARGE:  # one by one, so that none is fetched with another
                client.register(GROUP, key(store), constant(1000 + store, padding=LARGE_MODEL_BYTES + 1))
            until(lambda: client.group(GROUP).live.models == len(STORES) + len(LARGE), 60, "the large models")
        yield made


@pytest.fixture
def client(house):
    with Client(house["gateway-1"].address) as made:
        yield made


def test_a_cold_model_that_many_ask_for_at_once_is_loaded_once_a_worker(house):
    all_ask(house, 3)
    loads = counting(house.of("worker"), "manymodels_model_loads_total")
    body = {"key": key(LARGE[0]), "instances": [ROW]}
    with callers_of_gateways(house, times=8) as callers, ThreadPoolExecutor(len(callers)) as threads:
        rounds = 1000 // len(callers) + 1
        asked = [threads.submit(lambda c=c: [c.call("POST", PREDICT, body) for _ in range(rounds)]) for c in callers]
        outcomes = [outcome for one in asked for outcome in one.result()]
    assert len(outcomes) >= 1000
    assert wrong(outcomes) == []
    assert set(loads()) <= {0, 1}


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_cold_model_without_its_bucket_is_refused_by_its_deadline_and_warm_ones_are_served(house, client, fault):
    all_ask(house, 3)
    store = LARGE[{"kill": 1, "freeze": 2}[fault]]
    with callers_of_gateways(house) as callers, traffic(callers, RATE, predict) as flowing:
        flowing_on(flowing, RATE)
        getattr(house.bucket, fault)()
        try:
            began = time.monotonic()
            with pytest.raises(BusyError) as refused:
                client.predict(GROUP, key(store), [ROW])
            taken = time.monotonic() - began
            flowing_on(flowing, RATE)
        finally:
            house.bucket.start() if fault == "kill" else house.bucket.thaw()
        until(lambda: value(client, store) == 1000 + store, 60, "the model, when its bucket is back")
    assert (refused.value.status, refused.value.retry_after) == (503, 1)
    assert taken < 3 * LOAD_SECONDS  # one try, and one more elsewhere; the bucket itself would be awaited for longer
    print(f"{refused.value.code} after {taken:.1f} s")
    assert wrong(flowing.outcomes) == []


def test_what_every_worker_refuses_is_asked_for_hardly_more_often_than_once(house):
    all_ask(house, 3)
    body = {"key": key(LARGE[3]), "instances": [ROW]}
    retries, began = counting(house.of("gateway"), "manymodels_hop_retries_total"), time.monotonic()
    house.bucket.kill()
    try:
        with callers_of_gateways(house, times=8) as callers, ThreadPoolExecutor(len(callers)) as threads:
            answers = [threads.submit(lambda c=c: [c.call("POST", PREDICT, body) for _ in range(200)]) for c in callers]
            outcomes = [outcome for one in answers for outcome in one.result()]
    finally:
        house.bucket.start()
    taken = time.monotonic() - began
    again = retries()
    assert {outcome.status for outcome in outcomes} == {503}
    asked = len(outcomes) + 2 * RATE * WINDOW_SECONDS  # a budget counts what the test before has asked as well
    assert 0 < sum(again) <= SHARE * asked + len(again) * PER_SECOND * (WINDOW_SECONDS + taken)


def test_a_worker_whose_disk_is_too_small_for_its_models_costs_no_request_and_keeps_nothing_half(house, client):
    all_ask(house, 3)
    expected = [1000 + store for store in LARGE]
    worker = house["worker-1"]
    cache = worker.home / "cache"
    assert worker.stop() == 0
    shutil.rmtree(cache)
    with small_disk(cache, int(2.5 * LARGE_MODEL_BYTES)):
        worker.start()
        all_ask(house, 3)
        with callers_of_gateways(house) as callers, traffic(callers, RATE, predict) as flowing:
            # All at one worker, then through the gateway, whom another answers where that one has no room.
            with Client(worker.address) as full:
                answered = [value(full, store) for store in LARGE]
            assert [value(client, store) for store in LARGE] == expected
            assert client.predict_bulk(GROUP, [{**key(store), **ROW} for store in LARGE]).predictions == expected
            flowing_on(flowing, RATE)
        assert wrong(flowing.outcomes) == []
        assert None in answered
        assert set(answered) - {None} <= set(expected)
        assert list((cache / "staged").iterdir()) == []
        for file in (cache / "objects").rglob("*/*"):
            assert hashlib.sha256(file.read_bytes()).hexdigest() == file.parent.name + file.name
        assert worker.stop() == 0
    worker.start()


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_the_one_worker_that_is_left_of_three_answers_everything(house, fault):
    all_ask(house, 3)
    with callers_of_gateways(house) as callers, traffic(callers, RATE, predict) as flowing:
        flowing_on(flowing, RATE)
        for name in WORKERS[:2]:  # not in the same moment: a call that takes two workers with it is not given a third
            getattr(house[name], fault)()
            flowing_on(flowing, RATE)
        flowing_on(flowing, 2 * RATE)
        for name in WORKERS[:2]:
            house[name].start() if fault == "kill" else house[name].thaw()
        flowing_on(flowing, RATE)
    assert wrong(flowing.outcomes) == []


def test_a_fleet_that_starts_anew_as_a_whole_is_told_from_a_wrong_one_and_answers_soon(house):
    """Nobody can answer while all workers are gone; what is said then is 503, and never that there is no model."""
    all_ask(house, 3)
    with callers_of_gateways(house) as callers, traffic(callers, RATE, predict) as flowing:
        flowing_on(flowing, RATE)
        for name in WORKERS:
            house[name].kill()
        flowing_on(flowing, RATE // 2)
        for name in WORKERS:
            house[name].launch()
        for name in WORKERS:
            house[name].await_answer()
        up = time.monotonic()
        all_ask(house, 3)
        until(lambda: not failed(flowing.outcomes[-RATE:]), 60, "answers")
        well = time.monotonic()
        flowing_on(flowing, 2 * RATE)
    refused = [outcome for outcome in flowing.outcomes if outcome.status != 200]
    assert {outcome.status for outcome in refused} == {503}
    assert wrong([outcome for outcome in flowing.outcomes if outcome.status == 200]) == []
    last = max(outcome.at for outcome in refused)
    print(f"{len(refused)} refused, the last {last - up:+.2f} s from when all were up")
    assert failed([outcome for outcome in flowing.outcomes if outcome.at > well]) == []
