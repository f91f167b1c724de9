"""A bucket whose answers arrive damaged or short: what has another digest is never served, it is asked for once more, and
all that is warm goes on. The line to the bucket is what damages; the bucket itself is sound.
"""

import shutil

import pytest

from manymodels import Client
from manymodels.errors import ApiError
from tests.support.bucket import bucket_server
from tests.support.constant import ROW, constant
from tests.support.ledger import callers_of_each, traffic
from tests.support.relays import Relay
from tests.support.served import served
from tests.support.shown import knows
from tests.support.stores import GROUP, asking, flowing_on, import_stores, key, value, wrong
from tests.support.waiting import until
from workers.segments.layout import LARGE_MODEL_BYTES

STORES = range(1, 21)
LARGE, LARGER = 41, 42  # too large for a segment, so fetched when they are asked for
PLACE = 5000  # where in an answer the damage is: segments and large models are longer, all else is shorter
RATE = 40
# A load that fails is refused no longer than it takes to ask again; what could not be opened is looked for each second.
SETTINGS = {"artifacts": "s3://models/tests", "failed_load_seconds": 0.1, "large_model_bytes": 1 << 20}


class Damage:
    """What is done to answers of the bucket: nothing, or to the next `left` long ones the one or the other."""

    def __init__(self, kind):
        self._kind = kind
        self.left = 0
        self.done = 0

    def __call__(self, data, came):
        at = PLACE - came
        if not self.left or not 0 <= at < len(data):
            return data
        self.left -= 1
        self.done += 1
        return data[:at] if self._kind == "short" else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.fixture(params=["flipped", "short"])
def damage(request):
    return Damage(request.param)


@pytest.fixture
def house(damage, tmp_path, monkeypatch):
    """Its fleet is live and held; of the large models nothing is here."""
    with bucket_server(tmp_path) as bucket, Relay("127.0.0.1", {"bucket": bucket.port}, damage) as relay:
        for name, given in bucket.credentials.items():
            monkeypatch.setenv(name, given)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{relay.ports['bucket']}")
        with served(tmp_path / "home", settings=SETTINGS) as running, Client(running.url) as client:
            import_stores(client, tmp_path, STORES, cached=STORES)
            for store in (LARGE, LARGER):  # apart, or they would lie in one object
                client.register(GROUP, key(store), constant(1000 + store, padding=4 * LARGE_MODEL_BYTES // 3))
            with callers_of_each(running.port, 1) as [caller]:
                until(
                    lambda: all(knows(caller, GROUP, key(store)) for store in (STORES[-1], LARGE, LARGER)),
                    60,
                    "the fleet",
                )
            until(lambda: all(value(client, store) == 1000 + store for store in STORES), 60, "the fleet's answers")
            shutil.rmtree(running.home / "cache" / "objects")  # what is mapped stays mapped
            (running.home / "cache" / "objects").mkdir()
            yield running


def test_what_arrives_damaged_is_fetched_once_more_then_refused_and_comes_back_by_itself(house, damage):
    with Client(house.url) as client, callers_of_each(house.port, 1, times=2) as callers:
        with traffic(callers, RATE, asking(STORES)) as flowing:
            flowing_on(flowing, RATE)
            damage.left = 1
            assert client.predict(GROUP, key(LARGE), [ROW]).predictions == [1000 + LARGE]
            assert (damage.left, damage.done) == (0, 1)
            damage.left = 1000
            with pytest.raises(ApiError) as refused:
                client.predict(GROUP, key(LARGER), [ROW])
            assert refused.value.code == "segment_damaged"
            assert damage.done == 3
            assert list((house.home / "cache" / "objects").rglob("*.tmp*")) == []
            flowing_on(flowing, RATE)
            damage.left = 0
            until(lambda: value(client, LARGER) == 1000 + LARGER, 30, "the other large model")
            flowing_on(flowing, RATE)
        assert wrong(flowing.outcomes) == []


def test_a_machine_with_an_empty_disk_serves_nothing_that_arrived_damaged_and_all_once_it_arrives_whole(house, damage):
    assert house.stop() == 0
    shutil.rmtree(house.home / "cache")
    damage.left = 1 << 60
    with served(house.home, settings=SETTINGS) as again, Client(again.url) as client:
        until(lambda: damage.done >= 2, 60, "a damaged segment")
        for store in STORES:
            with pytest.raises(ApiError) as refused:
                client.predict(GROUP, key(store), [ROW])
            assert refused.value.code == "segment_damaged"
        damage.left = 0
        until(lambda: all(value(client, store) == 1000 + store for store in (*STORES, LARGE)), 60, "the fleet")
