"""A house whose artifacts lie in a bucket: what becomes of requests, registrations and starts when that is lost."""

import shutil
from pathlib import Path

import pytest

from manymodels import Client
from manymodels.errors import ApiError
from tests.support import models
from tests.support.bucket import bucket_server
from tests.support.constant import constant
from tests.support.ledger import callers_of_each, failed, traffic
from tests.support.served import served
from tests.support.shown import knows
from tests.support.waiting import seconds_until, until
from workers.segments.layout import LARGE_MODEL_BYTES

GROUP = "oj"
PREDICT = f"/v1/groups/{GROUP}/predict"
FEATURES = {"inputs": [{"name": "price"}, {"name": "feat"}], "outputs": [{"name": "sales"}]}
ROW = {"price": 1.0, "feat": 0.0}
STORES = range(1, 6)
LARGE = 99
RATE = 40


@pytest.fixture
def server(tmp_path):
    with bucket_server(tmp_path) as running:
        yield running


@pytest.fixture
def environment(server, monkeypatch):
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def settings():
    # A load that fails is refused no longer than it takes to ask again.
    return {"artifacts": "s3://models/tests", "failed_load_seconds": 0.1}


@pytest.fixture
def house(environment, settings, tmp_path):
    with served(tmp_path / "home", processes=2, settings=settings) as running, Client(running.url) as client:
        client.create_group(GROUP, key=["store"], signature=FEATURES)
        for store in STORES:
            client.register(GROUP, {"store": str(store)}, constant(1000 + store))
        client.register(GROUP, {"store": str(LARGE)}, large().data)
        with callers_of_each(running.port, 2) as callers:
            until(lambda: all(knows(caller, GROUP, {"store": str(LARGE)}) for caller in callers), 60, "the fleet")
        yield running


def large():
    """A model too large for a segment, so that it is fetched when it is asked for."""
    small = models.lightgbm_regressor(5)
    padding = b"[note: %b]\n" % (b"x" * (LARGE_MODEL_BYTES + 1))
    start, end, rest = small.data.partition(b"end of parameters")
    return models.TinyModel("lightgbm", small.native, start + padding + end + rest)


def answered(client, store):
    """What a store's own model answers; None while it does not."""
    try:
        return client.predict(GROUP, {"store": str(store)}, [ROW]).predictions[0]
    except ApiError:
        return None


def predict(number):
    return PREDICT, {"key": {"store": str(STORES[number % len(STORES)])}, "instances": [ROW]}


def forget_copies(home: Path) -> None:
    """As if they had been removed to make room: what is mapped stays mapped."""
    shutil.rmtree(home / "cache" / "objects")
    (home / "cache" / "objects").mkdir()


def test_a_lost_bucket_costs_no_warm_request_and_all_else_is_told_to_come_back(house, server):
    with Client(house.url) as client, callers_of_each(house.port, 2, times=2) as connections:
        for caller in connections:
            seconds_until(lambda asked=caller: asked.call("POST", *predict(4)).status == 200, what="a first answer")
        with traffic(connections, RATE, predict) as flowing:
            until(lambda: len(flowing.outcomes) > RATE, 60, "traffic")
            forget_copies(house.home)
            server.kill()
            with pytest.raises(ApiError) as cold:
                client.predict(GROUP, {"store": str(LARGE)}, [ROW])
            assert (cold.value.status, cold.value.code) == (503, "model_load_failed")
            with pytest.raises(ApiError) as refused:
                client.register(GROUP, {"store": "7"}, constant(1007))
            assert (refused.value.status, refused.value.code) == (503, "store_away")
            seen = len(flowing.outcomes)
            until(lambda: len(flowing.outcomes) > seen + RATE, 60, "more of it")
            server.start()
            until(lambda: answered(client, LARGE) is not None, 60, "the large model")
            client.register(GROUP, {"store": "7"}, constant(1007))
            until(lambda: answered(client, 7) == 1007, 60, "a registration")
        assert failed(flowing.outcomes) == []
        assert {outcome.answer["predictions"][0] for outcome in flowing.outcomes} == {1000.0 + s for s in STORES}


def test_a_machine_that_has_nothing_yet_fetches_what_it_serves(house, settings):
    with Client(house.url) as client:
        expected = {store: answered(client, store) for store in (*STORES, LARGE)}
    assert house.stop() == 0
    assert not list((house.home / "artifacts").rglob("*"))
    shutil.rmtree(house.home / "cache")
    with served(house.home, settings=settings) as again, Client(again.url) as client:
        until(lambda: answered(client, LARGE) is not None, 60, "the first answer")
        assert {store: answered(client, store) for store in expected} == expected
    assert expected[LARGE] == large().native.predict([[ROW["price"], ROW["feat"]]], num_threads=1)[0]


def test_a_machine_that_starts_while_the_bucket_is_away_serves_what_it_has_and_the_rest_when_it_is_back(
    house, server, settings
):
    assert house.stop() == 0
    server.kill()
    with served(house.home, settings=settings) as again, Client(again.url) as client:
        assert [answered(client, store) for store in STORES] == [1000.0 + store for store in STORES]
    forget_copies(house.home)
    with served(house.home, settings=settings) as again, Client(again.url) as client:
        with pytest.raises(ApiError) as cold:
            client.predict(GROUP, {"store": "1"}, [ROW])
        assert cold.value.status == 503
        server.start()
        until(lambda: [answered(client, store) for store in STORES] == [1000.0 + store for store in STORES], 60)
