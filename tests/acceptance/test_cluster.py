"""A cluster of real processes: two gateways and three workers over PostgreSQL, a bucket and Consul, and what they lose.

Traffic goes on through everything that happens, and its ledger tells: every request has one outcome, and every answer
is the number that the release it names has for its key.
"""

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local.house import House
from manymodels import Client
from manymodels.errors import ApiError
from tests.support.clusters import REPLICAS, SETTINGS, all_ask, all_hold, callers_of_gateways, counting, serving
from tests.support.constant import ROW, constant
from tests.support.front import callers_of_front
from tests.support.installed import needed
from tests.support.ledger import failed, traffic
from tests.support.processes import descendants
from tests.support.stores import GROUP, PREDICT, asking, flowing_on, key, value, wrong
from tests.support.waiting import until

pytestmark = pytest.mark.alone

STORES = range(1, 33)
RATE = 100
GATEWAYS = ("gateway-1", "gateway-2")
WORKERS = ("worker-1", "worker-2", "worker-3")
predict = asking(STORES)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A cluster that serves a fleet."""
    made = needed(lambda: House(tmp_path_factory.mktemp("cluster"), settings=SETTINGS))
    with serving(made, STORES, more={"brand=b": constant(777)}, fallback=[["brand"]]):
        yield made


@pytest.fixture
def client(house):
    with Client(house["gateway-1"].address) as made:
        yield made


@pytest.fixture
def callers(house):
    """Connections to both gateways, in turn."""
    with callers_of_gateways(house) as found:
        yield found


def serving_all(house, client):
    """The workers that serve the fleet, which is so small that it is one shard."""
    all_hold(house, STORES, REPLICAS)
    asked = {member.uri for member in client.lookup(GROUP, key(1)).members}
    found = [name for name in WORKERS if house[name].address in asked]
    assert len(found) == REPLICAS
    return found


def test_predicts_bulks_and_lookups_through_a_gateway_answer_as_a_whole_house_does(client):
    assert client.predict(GROUP, key(3), [ROW, ROW]).predictions == [1003.0, 1003.0]
    assert client.predict(GROUP, {"store": "500", "brand": "b"}, [ROW]).model.fallback_level == 1
    with pytest.raises(ApiError) as refused:
        client.predict(GROUP, key(500), [ROW])
    assert (refused.value.status, refused.value.code) == (404, "partition_not_found")
    rows = [{"store": str(n), "brand": "a", **ROW} for n in (5, 500, 9, 5)]
    found = client.predict_bulk(GROUP, rows)
    assert found.predictions == [1005.0, None, 1009.0, 1005.0]
    assert [error.code for error in found.errors] == ["partition_not_found"]
    found = client.lookup(GROUP, key(4))
    assert (found.model_key, len(found.members)) == ("store=4/brand=a", REPLICAS)


def test_a_worker_answers_predicts_itself_and_changes_nothing(house, client):
    with Client(client.lookup(GROUP, key(2)).members[0].uri) as worker:  # not every worker holds every key
        until(lambda: value(worker, 2) == 1002, 60, "an answer")
        with pytest.raises(ApiError) as refused:
            worker.register(GROUP, key(90), constant(1090))
        assert refused.value.status == 404
    with Client(house["discovery-1"].address) as discovery:
        assert len(discovery.lookup(GROUP, key(4)).members) == REPLICAS


def test_only_workers_and_builders_load_libraries_of_models(house, client):
    assert client.predict_bulk(GROUP, [{"store": "1", "brand": "a", **ROW}] * 5000).predictions == [1001.0] * 5000
    loaded = {name: mapped(house[name]) for name in (*GATEWAYS, "discovery-1", "builder-1")}
    assert loaded.pop("builder-1")  # what is asked for can be seen
    assert set().union(*loaded.values()) == set()


def mapped(service):
    """Which libraries of models the processes of a service have mapped."""
    seen = [Path(f"/proc/{pid}/maps").read_text() for pid in (service.pid, *descendants(service.pid))]
    return {name for name in ("lib_lightgbm", "onnxruntime", "sklearn") if any(name in maps for maps in seen)}


def test_a_client_that_asks_workers_itself_meets_the_same_answers_and_outlives_a_worker(house, client):
    all_ask(house, 3)
    with Client(house["discovery-1"].address, direct=True) as direct:
        expected = [1000.0 + n for n in STORES]
        assert [value(direct, n) for n in STORES] == expected
        asked = client.lookup(GROUP, key(4)).members[0].uri
        [lost] = [name for name in WORKERS if house[name].address == asked]
        house[lost].kill()
        assert [value(direct, n) for n in STORES] == expected
        house[lost].start()
        # Discovery answers no predicts: whatever was answered came from a worker.
        with pytest.raises(ApiError):
            direct.predict_bulk(GROUP, [{"store": "1", "brand": "a", **ROW}])


def test_a_worker_that_is_killed_costs_no_request(house, callers):
    all_ask(house, 3)
    with traffic(callers, RATE, predict) as flowing:
        for number in range(3):
            flowing_on(flowing, RATE)
            house[WORKERS[number]].kill()
            flowing_on(flowing, RATE // 2)
            house[WORKERS[number]].start()
    assert wrong(flowing.outcomes) == []
    slowest = max(outcome.seconds for outcome in flowing.outcomes)
    print(f"slowest answer {slowest * 1000:.0f} ms")


def test_a_worker_that_hangs_costs_no_request_and_comes_back(house, callers, client):
    all_ask(house, 3)
    hanging = house[serving_all(house, client)[0]]
    with traffic(callers, RATE, predict) as flowing:
        flowing_on(flowing, RATE)
        hanging.freeze()
        stopped = time.monotonic()
        flowing_on(flowing, 2 * RATE)
        hanging.thaw()
        flowing_on(flowing, RATE)
    assert wrong(flowing.outcomes) == []
    late = [outcome for outcome in flowing.outcomes if outcome.seconds > 0.2]
    settled = max((outcome.at + outcome.seconds - stopped for outcome in late), default=0.0)
    print(f"{len(late)} slow answers, settled after {settled:.2f} s")  # `benchmarks.failover` measures it


@contextmanager
def slowed(service):
    """A service whose processes run a tenth of the time."""
    ending = threading.Event()

    def hold_up():
        while not ending.wait(0.005):
            service.freeze()
            ending.wait(0.045)
            service.thaw()

    holding = threading.Thread(target=hold_up)
    holding.start()
    try:
        yield
    finally:
        ending.set()
        holding.join()


def test_a_worker_that_becomes_ten_times_slower_costs_no_request_and_is_asked_less(house, client, callers):
    all_ask(house, 3)
    workers = [house[name] for name in serving_all(house, client)]
    calls = counting(workers, "manymodels_hop_calls_total")
    with traffic(callers, RATE, predict) as flowing, slowed(workers[0]):
        flowing_on(flowing, 5 * RATE)
    assert wrong(flowing.outcomes) == []
    slow, other = calls()
    print(f"{slow:.0f} calls went to the slow one, {other:.0f} to the other")
    assert slow < other


def test_a_bulk_whose_worker_dies_is_answered_whole(house, client):
    all_ask(house, 3)
    rows = [{"store": str(n), "brand": "a", **ROW} for n in STORES] * 200
    expected = [1000.0 + n for n in STORES] * 200
    assert client.predict_bulk(GROUP, rows).predictions == expected
    lost = house[serving_all(house, client)[0]]
    lost.kill()
    for _ in range(5):
        assert client.predict_bulk(GROUP, rows).predictions == expected
    lost.start()


def test_a_release_is_answered_by_every_worker_or_by_none_that_lacks_it(house, client, callers):
    all_ask(house, 3)
    first = client.group(GROUP).live.release
    client.register(GROUP, key(1), constant(5001))
    until(lambda: value(client, 1) == 5001, 60, "a release")
    meant = {first: 1001.0, client.group(GROUP).live.release: 5001.0}
    lost = house[serving_all(house, client)[0]]
    with traffic(callers, RATE, lambda _: (PREDICT, {"key": key(1), "instances": [ROW]})) as flowing:
        for number in range(6):
            client.promote(GROUP, list(meant)[number % 2])
            flowing_on(flowing, 30)
            if number == 2:
                lost.kill()
            if number == 3:
                lost.start()
        client.promote(GROUP, first)
    assert failed(flowing.outcomes) == []
    for outcome in flowing.outcomes:
        assert outcome.answer["predictions"][0] == meant[outcome.answer["model"]["release"]]


@pytest.mark.parametrize("lost", ["postgres", "bucket", "consul"])
def test_what_the_cluster_stands_on_may_go_away(house, client, callers, lost):
    until(lambda: value(client, 1) == 1001, 60, "the first release")
    server = house[lost]
    with traffic(callers, RATE, predict) as flowing:
        flowing_on(flowing, RATE)
        server.kill()
        flowing_on(flowing, 5 * RATE)
        server.start()
        flowing_on(flowing, 5 * RATE)
    assert wrong(flowing.outcomes) == []
    all_ask(house, 3)


def test_a_gateway_that_starts_while_the_registry_and_consul_are_away_serves_what_it_knew(house, client):
    all_ask(house, 3)
    assert value(client, 7) == 1007
    house.postgres.kill()
    house["consul"].kill()
    try:
        assert house["gateway-1"].stop() == 0
        house["gateway-1"].start()
        with Client(house["gateway-1"].address) as again:
            assert value(again, 7) == 1007
    finally:
        house.postgres.start()
        house["consul"].start()
    all_ask(house, 3)


def test_everything_is_restarted_one_after_another_without_a_failed_request(house):
    all_ask(house, 3)
    ports = [house[name].port for name in GATEWAYS]
    with callers_of_front(house.folder, ports, predict) as found, traffic(found, RATE, predict) as flowing:
        for name in (*WORKERS, *GATEWAYS, "discovery-1", "builder-1"):
            assert house[name].stop() == 0
            house[name].start()
            flowing_on(flowing, RATE)
    assert wrong(flowing.outcomes) == []
